"""Files and folders that appear whole or not at all: written beside their place, then renamed into it."""

import errno
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from audiocnn.errors import AudioCNNError

NEW, OLD = "new", "old"  # within the hidden folder: what is being written, and what stood at its place before
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)  # errors that as a rule name no file


class OutputError(AudioCNNError):
    """A place that must not be written to: it holds, or is, something that would be lost."""


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` on success, remove it on any failure.

    The rename is atomic on one file system, so a reader sees the old file or the new one, never a part.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = _beside(path)
    try:
        with _named(path):
            yield part
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path, marker: str | None = None) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; move it to `path` on success, remove it on any failure.

    What stands at `path` is replaced only if `check_output` lets it, and only once the new folder is complete. Two
    renames are needed for that (POSIX has no portable exchange of folders), so a reader may for an instant find no
    folder, never a half-written one.

    Raises:
        OutputError: see check_output.
    """
    path = check_output(path, marker)
    with _hidden(path) as hidden:
        part, old = hidden / NEW, hidden / OLD
        part.mkdir()
        yield part
        try:
            if path.exists():
                path.replace(old)
            part.replace(path)
        except BaseException:
            if old.exists() and not path.exists():
                old.replace(path)
            raise


@contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """Yield a hidden folder beside `path`, gone after the block: room for what is too large for /tmp."""
    with _hidden(path.resolve()) as hidden:
        (hidden / NEW).mkdir()
        yield hidden / NEW


def check_output(path: Path, marker: str | None = None, inputs: Iterable[Path] = ()) -> Path:
    """Hold a folder that is to be written against what would be lost: one typing error must not cost recordings.

    Nor must it cost the work of hours: that the place can be written to is tried.

    Args:
        marker: a file in every output of this step, by which an earlier one is known; None never replaces anything.
        inputs: what the step reads.
    Returns:
        where `path` leads: a link to a folder stays, and the folder is replaced.
    Raises:
        OutputError: something else is there, or it is, or holds, an input or the working folder, or the system
            does not let a folder be made there.
    """
    place = path.resolve()
    if Path.cwd().is_relative_to(place):
        raise OutputError(f"output {path} is the working folder, or holds it; give a new folder, such as {path}/output")
    for given in inputs:
        if given.resolve().is_relative_to(place):
            raise OutputError(f"output {path} is, or holds, the input {given}; choose another output")
    ours = marker is not None and (place / marker).is_file()
    if place.exists() and not ours and (not place.is_dir() or any(place.iterdir())):
        what = f"is no earlier output of this step: it holds no {marker}" if marker else "is not empty"
        raise OutputError(f"output {path} exists and {what}; choose another output, or remove it")
    _try(path, place)
    return place


def _try(path: Path, place: Path) -> None:
    """Make a folder where the first missing part of `place` will be, and remove it again."""
    above = next(parent for parent in place.parents if parent.exists())
    probe = _beside(above / place.name)
    try:
        probe.mkdir()
        probe.rmdir()
    except OSError as error:
        raise OutputError(
            f"output {path} cannot be written: no folder can be made in {above} ({error.strerror}); choose another "
            "output"
        ) from error


@contextmanager
def _hidden(path: Path) -> Iterator[Path]:
    """A new folder beside `path`, locked while its process lives, so that a later run can tell what the dead left."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path)
    hidden, lock = _beside(path), None
    try:
        with _named(path):
            while lock is None:  # another run's sweep may be quicker than the lock
                hidden.mkdir(exist_ok=True)
                lock = _locked(hidden)
            yield hidden
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
        if lock is not None:
            lock.release()


def _sweep(path: Path) -> None:
    """Remove what killed processes have left beside `path`; what one had moved away to replace it is put back."""
    ours = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{32}}\.part")
    for left in [found for found in path.parent.iterdir() if ours.fullmatch(found.name) and found.is_dir()]:
        with suppress(OSError):  # another user's, or on a disk that knows no locks: it stays
            lock = _locked(left)
            if lock is None:
                continue
            if (left / OLD).exists() and not path.exists():
                (left / OLD).replace(path)
            shutil.rmtree(left, ignore_errors=True)
            lock.release()


def _locked(folder: Path) -> FileLock | None:
    """A lock that ends with this process; None where a living one holds it."""
    lock = FileLock(folder / "lock")
    try:
        lock.acquire(timeout=0)
    except (Timeout, FileNotFoundError):
        return None
    return lock


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Let an error of the disk name `path`, not nothing and not a hidden part of it."""
    try:
        yield
    except OSError as error:
        hidden = str(path.with_name(f".{path.name}."))
        if error.errno in DISK and (error.filename is None or str(error.filename).startswith(hidden)):
            error.filename, error.filename2 = str(path), None
        raise


def part_of(path: Path) -> Path | None:
    """The path that `path` is a temporary one of, None where it is no such: what a killed process leaves behind."""
    match = re.fullmatch(r"\.(.+)\.[0-9a-f]{32}\.part", path.name)
    return path.with_name(match[1]) if match else None


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
