"""Where trainings' checkpoints lie: a folder, or a bucket that outlives the machine."""

import json
from pathlib import Path

from components.storage import StorageError
from components.stores import FolderStore, open_store


class StoredCheckpoints:
    """The latest state of one training, and the MLflow run that it belongs to.

    Args:
        root: a folder's path or s3://bucket/prefix, shared by any number of trainings.
        training: names this one: audiocnn.training.fingerprint.
    """

    def __init__(self, root: str, training: str) -> None:
        self._store = open_store(root)
        self._state, self._run = f"{training}.pt", f"{training}.json"
        self.training = training
        self.place = f"{root.rstrip('/')}/{self._state}"
        self.failing = False  # the latest state could not be written

    def read(self) -> bytes | None:
        """The state, or None where there is none.

        Raises:
            StorageError, OSError: the place cannot be read.
        """
        return self._store.get(self._state)

    def write(self, content: bytes) -> None:
        """Replace the state. One that cannot be written is told once: training goes on, and the one before it stays."""
        try:
            self._store.put(self._state, content)
            self._store.flush()
            self.failing = False
        except (OSError, StorageError) as error:
            if not self.failing:
                print(f"[checkpoints] none could be written, going on without: {error}", flush=True)
            self.failing = True

    @property
    def run_id(self) -> str | None:
        """The MLflow run of the training that was begun here, whether or not it came to leave a state."""
        memo = self._store.get(self._run)
        if memo is None:
            return None
        try:
            return str(json.loads(memo)["run_id"])
        except (ValueError, KeyError, TypeError):
            print(f"[checkpoints] {self._run} beside {self.place} is damaged and names no MLflow run", flush=True)
            return None

    @run_id.setter
    def run_id(self, value: str) -> None:
        try:
            self._store.put(self._run, json.dumps({"run_id": value}).encode())
            self._store.flush()
        except (OSError, StorageError) as error:
            print(
                f"[checkpoints] {self.place}: cannot be written, so a killed training would begin anew: {error}",
                flush=True,
            )

    def clear(self) -> None:
        """Forget the training: it is done. What cannot be removed is told, and stays."""
        try:
            self._store.delete([self._state, self._run])
            if isinstance(self._store, FolderStore):
                for part in Path(self._store.root).glob(f".{self._state}.*.part"):
                    part.unlink(missing_ok=True)  # of a process that was killed while it wrote
        except (OSError, StorageError) as error:
            print(f"[checkpoints] {self.place} is of no more use, and cannot be removed: {error}", flush=True)
