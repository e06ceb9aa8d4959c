"""Checkpoints of trainings, in a local folder or an S3 bucket."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from audiocnn.errors import AudioCNNError
from mlops.storage import SCHEME, StorageError, open_store

DEFAULT_CHECKPOINTS = "var/checkpoints"
LOCK_SECONDS = 1.0  # for a process that is about to exit


class AlreadyRunningError(AudioCNNError):
    """Another process runs the same training."""


class CheckpointStore:
    """The latest state of one training and the id of its MLflow run.

    In a folder, a lock admits one process at a time. On S3 there are no locks, and the last writer wins.

    Args:
        root: a folder's path or s3://bucket/prefix; it may contain the checkpoints of many trainings.
        name: of the training, from audiocnn.training.checkpoint.fingerprint.
    """

    def __init__(self, root: str, name: str) -> None:
        self._store = open_store(root)
        self._folder = None if root.startswith(SCHEME) else Path(root)
        self._state, self._run = f"{name}.state", f"{name}.run"
        self.name = name
        self.location = f"{root.rstrip('/')}/{self._state}"
        self.write_failed = False  # the latest state could not be written

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold an exclusive lock on the training while the block runs.

        The operating system releases the lock when the process ends.

        Raises:
            AlreadyRunningError: another process holds the lock.
        """
        if self._folder is None:
            yield
            return
        path = self._folder / f"{self.name}.lock"
        lock = FileLock(path, fallback_to_soft=False)  # a soft lock would remain after a killed process
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=LOCK_SECONDS)
        except Timeout:
            owner = path.read_text(encoding="utf-8") if path.exists() else "another process"
            raise AlreadyRunningError(
                f"{self.location}: {owner} runs the same training; wait for it, or stop it"
            ) from None
        except OSError as error:  # read-only, or a file system without locks
            once = "cannot be locked, so start this training only once"
            print(f"[checkpoints] {self.location} {once}: {error}", flush=True)
        try:
            with suppress(OSError):
                path.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
            yield
        finally:
            with suppress(OSError):
                path.unlink(missing_ok=True)  # before the release: a waiting process notices that the file is gone
            lock.release()

    def read(self) -> bytes | None:
        """Return the state, or None if there is none. Raise StorageError if the store cannot be read."""
        return self._store.get(self._state)

    def write(self, content: bytes) -> None:
        """Replace the state. If that fails, the failure is printed once and the previous state remains."""
        try:
            self._put(self._state, content)
            self.write_failed = False
        except (OSError, StorageError) as error:
            if not self.write_failed:
                print(f"[checkpoints] cannot be written, training continues without checkpoints: {error}", flush=True)
            self.write_failed = True

    def read_run_id(self) -> str:
        """Return the id of the training's MLflow run, or "". Raise StorageError if the store cannot be read."""
        return (self._store.get(self._run) or b"").decode(errors="replace").strip()

    def write_run_id(self, run_id: str) -> None:
        """Store the id of the training's MLflow run. A failure is printed."""
        try:
            self._put(self._run, run_id.encode())
        except (OSError, StorageError) as error:
            print(f"[checkpoints] cannot be written, a killed training would start over: {error}", flush=True)

    def clear(self) -> None:
        """Delete the state and the run id. A failure is printed."""
        parts = self._folder.glob(f".{self.name}.*.part") if self._folder else ()  # of a write that was killed
        try:
            self._store.delete([self._state, self._run, *(part.name for part in parts)])
        except (OSError, StorageError) as error:
            print(f"[checkpoints] {self.location} is not needed and cannot be deleted: {error}", flush=True)

    def _put(self, name: str, content: bytes) -> None:
        self._store.put(name, content)
        self._store.flush()
