"""Files and folders that appear complete or not at all: they are written next to their destination, then renamed.

A process that is killed leaves a hidden `.NAME.*.part` next to the destination. For folders, a later run for the same
destination removes what is older than a day.
"""

import errno
import glob
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LEFTOVER_SECONDS = 24 * 3600  # younger ones may belong to a process that is still writing


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to `path`; rename it to `path` on success, remove it on failure.

    The rename is atomic within a file system: a reader sees the old file or the new one, never a part.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield a temporary folder next to `path`; move it to `path` on success, remove it on failure.

    Args:
        path: the destination. A symbolic link stays, and its target is written.
        replace: whether an existing folder may be replaced. It stays in place until the new one is complete. POSIX has
            no portable exchange of folders, so a reader may find no folder for an instant, never an incomplete one.
    Raises:
        FileExistsError: `path` is a file or a folder that is not empty, and `replace` is false.
    """
    path = path.resolve()
    if not replace and path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise FileExistsError(errno.EEXIST, "already exists and is not empty", str(path))
    with temporary_folder(path) as hidden:
        new, old = hidden / "new", hidden / "old"
        new.mkdir()  # with the usual permissions; `hidden` is private
        yield new
        try:
            if path.exists():
                path.replace(old)
            new.replace(path)
        except BaseException:
            if old.exists() and not path.exists():
                old.replace(path)
            raise


@contextmanager
def temporary_folder(path: Path) -> Iterator[Path]:
    """Yield a hidden folder next to `path`, removed after the block: for data that is too large for /tmp."""
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        with suppress(FileNotFoundError):  # removed by another process
            if time.time() - leftover.stat().st_mtime > LEFTOVER_SECONDS:
                shutil.rmtree(leftover, ignore_errors=True)
    with tempfile.TemporaryDirectory(
        prefix=f".{path.name}.", suffix=".part", dir=path.parent, ignore_cleanup_errors=True
    ) as folder:
        yield Path(folder)
