"""Named bytes in a folder, or in a bucket that many machines share: spectrograms, checkpoints. Names have slashes."""

import os
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from audiocnn.atomic import atomic_file
from components import storage

LEFTOVER_SECONDS = 3600.0  # a half-written file of a killed process is older than that


@dataclass(frozen=True)
class Entry:
    """One file or object: its name, bytes, and when it was written, in seconds since 1970."""

    name: str
    size: int
    modified: float


class Store(Protocol):
    """Readers see an entry whole or not at all, whoever writes at the same time."""

    def get(self, name: str) -> bytes | None: ...
    def get_many(self, names: Iterable[str]) -> Iterator[bytes | None]: ...
    def put(self, name: str, content: bytes) -> None: ...
    def flush(self) -> None: ...
    def list(self) -> Iterator[Entry]: ...
    def delete(self, names: Iterable[str]) -> None: ...
    def sweep(self) -> None: ...


def open_store(root: str) -> Store:
    """The store at a folder's path or at s3://bucket/prefix."""
    return BucketStore(storage.Bucket.of(root)) if root.startswith(storage.SCHEME) else FolderStore(Path(root))


class FolderStore:
    """Files below a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._prefix = f"{root}/"

    def get(self, name: str) -> bytes | None:
        """The content; None where there is none."""
        # Not Path.read_bytes: it takes three times as long, and this is all that a run with a full cache does.
        try:
            file = os.open(self._prefix + name, os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            return os.read(file, os.fstat(file).st_size)
        finally:
            os.close(file)

    def get_many(self, names: Iterable[str]) -> Iterator[bytes | None]:
        """`get` of each, in order."""
        return map(self.get, names)

    def put(self, name: str, content: bytes) -> None:
        """Write beside, then rename."""
        with atomic_file(self.root / name) as part:
            part.write_bytes(content)

    def flush(self) -> None:
        """Nothing waits."""

    def list(self) -> Iterator[Entry]:
        """Every whole entry; one that vanishes meanwhile is left out."""
        for path in self._files():
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

    def sweep(self) -> None:
        """Remove what killed processes have left half-written."""
        for path in self._files():
            if path.name.endswith(".part") and time.time() - path.stat().st_mtime > LEFTOVER_SECONDS:
                path.unlink(missing_ok=True)

    def _files(self) -> Iterator[Path]:
        return (Path(folder, name) for folder, _, names in os.walk(self.root) for name in names)


class BucketStore:
    """Objects below a prefix. Puts go on in the background: waiting for each would cost more than computing it."""

    def __init__(self, bucket: storage.Bucket) -> None:
        self.bucket = bucket
        self._pool = ThreadPoolExecutor(storage.THREADS)
        self._puts: list[Future[None]] = []

    def get(self, name: str) -> bytes | None:
        """The content; None where there is none."""
        return self.bucket.get(name)

    def get_many(self, names: Iterable[str]) -> Iterator[bytes | None]:
        """`get` of each, in order, several at once."""
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

    def list(self) -> Iterator[Entry]:
        """Every object."""
        for found in self.bucket.list():
            yield Entry(found.key, found.size, found.modified.timestamp())

    def delete(self, names: Iterable[str]) -> None:
        """Remove objects."""
        self.bucket.delete(names)

    def sweep(self) -> None:
        """Nothing is ever half-written."""
