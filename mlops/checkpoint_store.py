"""Where trainings' checkpoints lie: a folder, or a bucket that outlives the machine."""

import json
import os
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from audiocnn.errors import AudioCNNError
from mlops.storage import StorageError
from mlops.stores import FolderStore, open_store

LOCK_SECONDS = 1.0  # for a process that is just ending


class AlreadyRunningError(AudioCNNError):
    """The same training runs in another process; `run_id` is its MLflow run, as far as that is known."""

    def __init__(self, message: str, run_id: str = "") -> None:
        super().__init__(message)
        self.run_id = run_id


class CheckpointStore:
    """The latest state of one training, and a memo beside it: its MLflow run, and the process that it belongs to.

    In a folder a lock keeps a second process away. A bucket has none, and some disks have none: there the training
    belongs to the process that claimed it last, since the one before it may have been killed and will never say so.

    Args:
        root: a folder's path or s3://bucket/prefix, shared by any number of trainings.
        training: names this one: audiocnn.training.fingerprint.
    """

    def __init__(self, root: str, training: str) -> None:
        self._store = open_store(root)
        self._state, self._memo = f"{training}.pt", f"{training}.json"
        self.training = training
        self.place = f"{root.rstrip('/')}/{self._state}"
        self.failing = False  # the latest state could not be written
        self._owner = f"process {os.getpid()} on {socket.gethostname()}"
        self._token = uuid.uuid4().hex  # containers have the same number and, on their host's network, the same name
        self._locked = False
        self._claimed = ""  # the MLflow run that this process has written into the memo
        self._silent = False  # the memo could not be read; it is asked for again once a state was written

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes from this training within the block. The lock ends with the process, however it ends.

        Raises:
            AlreadyRunningError: another process holds it.
        """
        lock = self._lock()
        self._locked = lock is not None
        try:
            yield
        finally:
            if lock is not None:
                with suppress(OSError):  # while it is held: who waits for a removed lock notices, and tries again
                    Path(lock.lock_file).unlink(missing_ok=True)
                lock.release()

    def _lock(self) -> FileLock | None:
        if not isinstance(self._store, FolderStore):
            return None
        path = self._store.root / f"{self.training}.lock"
        lock = FileLock(path, fallback_to_soft=False)  # a soft one would outlive a killed process
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=LOCK_SECONDS)
        except Timeout:
            raise AlreadyRunningError(
                f"{self.place}: the same training is under way, by {_holder(path)}; wait for it, or give other "
                "--checkpoints"
            ) from None
        except OSError as error:
            print(f"[checkpoints] {self.place} cannot be locked; start this training once only: {error}", flush=True)
            return None
        with suppress(OSError):
            path.write_text(self._owner, encoding="utf-8")
        return lock

    def read(self) -> bytes | None:
        """The state, or None where there is none.

        Raises:
            StorageError, OSError: the place cannot be read.
        """
        return self._store.get(self._state)

    def write(self, content: bytes) -> None:
        """Replace the state. One that cannot be written is told once: training goes on, and the one before it stays.

        Raises:
            AlreadyRunningError: as `check`.
        """
        self.check()
        try:
            self._store.put(self._state, content)
            self._store.flush()
            self.failing = self._silent = False
        except (OSError, StorageError) as error:
            if not self.failing:
                print(f"[checkpoints] none could be written, going on without: {error}", flush=True)
            self.failing = True

    @property
    def run_id(self) -> str | None:
        """The MLflow run of the training that was begun here, whether or not it came to leave a state."""
        content = self._store.get(self._memo)
        run_id = _parsed(content).get("run_id")
        if content is not None and run_id is None:
            print(f"[checkpoints] {self._memo} beside {self.place} is damaged and names no MLflow run", flush=True)
        return run_id

    def claim(self, run_id: str) -> None:
        """Remember the MLflow run of the training, and that it is this process's from now on."""
        memo = {"run_id": run_id, "owner": self._owner, "token": self._token}
        try:
            self._store.put(self._memo, json.dumps(memo).encode())
            self._store.flush()
            self._claimed = run_id
        except (OSError, StorageError) as error:
            print(
                f"[checkpoints] {self.place}: cannot be written, so a killed training would begin anew: {error}",
                flush=True,
            )

    def check(self) -> None:
        """Look whether the training is still this process's; a place that does not answer says nothing against it.

        Raises:
            AlreadyRunningError: another process has claimed it since, or even ended it.
        """
        if not self._claimed or self._silent:
            return
        try:
            content = self._store.get(self._memo)
        except (OSError, StorageError):
            self._silent = True
            return
        if content is None and not self._locked:
            said = "another process has ended the same training, or its checkpoint was removed"
            raise AlreadyRunningError(f"{self.place}: {said}", self._claimed)
        memo = _parsed(content)
        if memo.get("token", self._token) != self._token:
            by, run_id = memo.get("owner", "another process"), str(memo.get("run_id", ""))
            raise AlreadyRunningError(
                f"{self.place}: {by} was started with the same training and goes on with it", run_id
            )

    def clear(self) -> None:
        """Forget the training: it is done. What cannot be removed is told, and stays; so does what another claimed."""
        try:
            self.check()
            self._store.delete([self._state, self._memo])
            if isinstance(self._store, FolderStore):
                for part in Path(self._store.root).glob(f".{self._state}.*.part"):
                    part.unlink(missing_ok=True)  # of a process that was killed while it wrote
        except AlreadyRunningError:
            return
        except (OSError, StorageError) as error:
            print(f"[checkpoints] {self.place} is of no more use, and cannot be removed: {error}", flush=True)


def _holder(lock: Path) -> str:
    with suppress(OSError):
        return lock.read_text(encoding="utf-8") or "another process"
    return "another process"


def _parsed(memo: bytes | None) -> dict[str, Any]:
    """What a memo says; nothing where it is damaged."""
    with suppress(ValueError):
        if isinstance(found := json.loads(memo or b"{}"), dict):
            return found
    return {}
