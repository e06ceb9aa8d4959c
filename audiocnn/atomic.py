"""Files and folders that appear whole or not at all: written beside their place, then renamed into it."""

import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` on success, remove it on any failure.

    The rename is atomic on one file system, so a reader sees the old file or the new one, never a part.
    """
    part = _beside(path)
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; move it to `path` on success, remove it on any failure.

    An existing folder at `path` is replaced only once the new one is complete. Two renames are needed for that (POSIX
    has no portable exchange of folders), so a reader may for an instant find no folder, never a half-written one.
    """
    part, old = _beside(path), _beside(path)
    part.mkdir()
    try:
        yield part
        if path.exists():
            path.replace(old)
        part.replace(path)
    except BaseException:
        if old.exists() and not path.exists():
            old.replace(path)
        raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def part_of(path: Path) -> Path | None:
    """The path that `path` is a temporary one of, None where it is no such: what a killed process leaves behind."""
    match = re.fullmatch(r"\.(.+)\.[0-9a-f]{32}\.part", path.name)
    return path.with_name(match[1]) if match else None


def _beside(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
