"""Named bytes in a folder, or in a bucket that many machines share: spectrograms, checkpoints. Names have slashes."""

import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Protocol

from audiocnn.atomic import atomic_file, part_of
from mlops import storage
from mlops.storage import StorageError

LEFTOVER_SECONDS = 3600.0  # a half-written file of a killed process is older than that


@dataclass(frozen=True)
class Entry:
    """One file or object: its name, bytes, and when it was written, in seconds since 1970."""

    name: str
    size: int
    modified: float


class Store(Protocol):
    """Readers see an entry whole or not at all, whoever writes at the same time. `address` is for people."""

    @property
    def address(self) -> str: ...
    def exists(self) -> bool: ...
    def get(self, name: str) -> bytes | None: ...
    def get_many(self, names: Iterable[str]) -> Iterator[bytes | None]: ...
    def put(self, name: str, content: bytes) -> None: ...
    def flush(self) -> None: ...
    def list(self, below: str = "") -> Iterator[Entry]: ...
    def delete(self, names: Iterable[str]) -> None: ...
    def delete_unchanged(self, entries: Iterable[Entry]) -> Sequence[Entry]: ...
    def sweep(self, own: Callable[[str], bool]) -> None: ...


def open_store(root: str) -> Store:
    """The store at a folder's path or at s3://bucket/prefix; a folder is made at the first put.

    Raises:
        StorageError: it is neither. An empty one would mean the working directory.
    """
    if root.startswith(storage.SCHEME):
        return BucketStore(storage.Bucket.of(root))
    if not root.strip() or re.match(r"[A-Za-z][\w+.-]+:/", root):
        raise StorageError(f"{root!r} is no address; expected a folder or s3://bucket/prefix")
    return FolderStore(Path(root))


class FolderStore:
    """Files below a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._prefix = f"{root}/"

    @property
    def address(self) -> str:
        """The folder's path."""
        return str(self.root)

    def exists(self) -> bool:
        """Whether the folder is there.

        Raises:
            StorageError: a file stands in its place.
        """
        if self.root.exists() and not self.root.is_dir():
            raise StorageError(f"{self.root} is a file, and no folder")
        return self.root.exists()

    def get(self, name: str) -> bytes | None:
        """The content; None where there is none.

        Raises:
            StorageError: something stands there that cannot be read.
        """
        # Not Path.read_bytes: it takes three times as long, and this is all that a run with a full cache does.
        try:
            file = os.open(self._prefix + name, os.O_RDONLY)
            try:
                size = os.fstat(file).st_size
                content = os.read(file, size)
                while len(content) < size and (more := os.read(file, size - len(content))):
                    content += more  # one call gives 2 GiB at most
                return content
            finally:
                os.close(file)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageError(f"{self.root / name} cannot be read: {self._reason(name, error)}") from error

    def get_many(self, names: Iterable[str]) -> Iterator[bytes | None]:
        """`get` of each, in order."""
        return map(self.get, names)

    def put(self, name: str, content: bytes) -> None:
        """Write beside, then rename."""
        with atomic_file(self.root / name) as part:
            part.write_bytes(content)

    def flush(self) -> None:
        """Nothing waits."""

    def list(self, below: str = "") -> Iterator[Entry]:
        """Every whole entry in the folder `below`; one that vanishes meanwhile is left out."""
        for path in self._files(below):
            if not path.name.startswith("."):
                try:
                    found = path.stat()
                except FileNotFoundError:
                    continue
                yield Entry(path.relative_to(self.root).as_posix(), found.st_size, found.st_mtime)

    def delete(self, names: Iterable[str]) -> None:
        """Remove entries; those that are gone already count as removed."""
        for name in names:
            (self.root / name).unlink(missing_ok=True)

    def delete_unchanged(self, entries: Iterable[Entry]) -> Sequence[Entry]:
        """Remove those that were not written again since they were listed; which went."""
        gone = []
        for entry in entries:
            path = self.root / entry.name
            try:
                if path.stat().st_mtime == entry.modified:
                    path.unlink()
                    gone.append(entry)
            except FileNotFoundError:
                continue
        return gone

    def sweep(self, own: Callable[[str], bool]) -> None:
        """Remove what killed processes have left half-written of entries whose names are `own`."""
        for path in self._files():
            whole = part_of(path)
            if whole is None or not own(whole.relative_to(self.root).as_posix()):
                continue
            try:
                if time.time() - path.stat().st_mtime > LEFTOVER_SECONDS:
                    path.unlink()
            except FileNotFoundError:  # it became whole, or was removed, meanwhile
                continue

    def _files(self, below: str = "") -> Iterator[Path]:
        walk = os.walk(self.root / below, onerror=_only_missing)
        return (Path(folder, name) for folder, _, names in walk for name in names)

    def _reason(self, name: str, error: OSError) -> str:
        if isinstance(error, IsADirectoryError):
            return "a folder stands in its place; remove it"
        if isinstance(error, NotADirectoryError):
            file = next(path for path in (self.root / name).parents if path.is_file())
            return f"{file} is a file, and no folder"
        return error.strerror or str(error)


def _only_missing(error: OSError) -> None:
    """What cannot be listed must not look empty; what vanished, or was never made, is."""
    if not isinstance(error, FileNotFoundError):
        raise error


class BucketStore:
    """Objects below a prefix. Puts go on in the background: waiting for each would cost more than computing it."""

    def __init__(self, bucket: storage.Bucket) -> None:
        self.bucket = bucket
        self._pool = ThreadPoolExecutor(storage.THREADS)
        self._puts: list[Future[None]] = []

    @property
    def address(self) -> str:
        """s3://bucket/prefix"""
        return self.bucket.url

    def exists(self) -> bool:
        """Whether an object lies below the prefix."""
        return any(True for _ in self.bucket.list())

    def get(self, name: str) -> bytes | None:
        """The content; None where there is none."""
        return self.bucket.get(name)

    def get_many(self, names: Iterable[str]) -> Iterator[bytes | None]:
        """`get` of each, in order, several at once; None also for one that the server has damaged."""
        return self.bucket.get_many(names)

    def put(self, name: str, content: bytes) -> None:
        """Begin to write. The error of an earlier put is raised here, or by `flush`."""
        if len(self._puts) >= 4 * storage.THREADS:  # no more than these in memory
            self._puts.pop(0).result()
        self._puts.append(self._pool.submit(self.bucket.put, name, content))

    def flush(self) -> None:
        """Wait for what is under way."""
        waiting, self._puts = self._puts, []
        for put in waiting:
            put.result()

    def list(self, below: str = "") -> Iterator[Entry]:
        """Every object whose name starts with `below`, sorted by name."""
        for found in self.bucket.list(below):
            yield Entry(found.key, found.size, found.modified.timestamp())

    def delete(self, names: Iterable[str]) -> None:
        """Remove objects."""
        self.bucket.delete(names)

    def delete_unchanged(self, entries: Iterable[Entry]) -> Sequence[Entry]:
        """Remove those that were not written again since they were listed; which went. S3 counts whole seconds."""
        waiting, gone = sorted(entries, key=lambda entry: entry.name), list[Entry]()
        for start in range(0, len(waiting), storage.LISTED):
            some = waiting[start : start + storage.LISTED]
            now = self._written(some[0].name, some[-1].name)
            same = [entry for entry in some if now.get(entry.name) == entry.modified]
            self.bucket.delete(entry.name for entry in same)
            gone += same
        return gone

    def _written(self, first: str, last: str) -> dict[str, float]:
        """When each of the objects from `first` to `last` was written."""
        found = takewhile(lambda found: found.key <= last, self.bucket.list(after=first[:-1]))  # `after` is left out
        return {one.key: one.modified.timestamp() for one in found}

    def sweep(self, own: Callable[[str], bool]) -> None:
        """Nothing is ever half-written."""
