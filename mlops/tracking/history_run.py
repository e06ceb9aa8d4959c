"""Where the history of a registered model is stored: an MLflow run of its own, in the experiment `audiocnn-history`.

An entry is an artifact, and its SHA-256 digest is a parameter of the run. MLflow neither changes nor deletes
parameters, and accepts only one value for each, so of two writers of the same entry one is refused.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_fixed

from mlops.tracking.connection import Connection, TrackingError, connect

EXPERIMENT = "audiocnn-history"
MODEL_TAG = "audiocnn.history"  # of the run: the registered model
ENTRIES = "entries"  # artifact folder
CLAIM = "entry."  # prefix of the parameters with the digests of the entries
NOTE = (
    "History of the registered model: every change of its alias `champion`. audiocnn appends to it; "
    "`audiocnn history` shows and verifies it. Do not edit it."
)


@dataclass(frozen=True)
class HistoryRun:
    """The run of a model's history.

    Attributes:
        deleted: the run, or its experiment, is in MLflow's trash.
        others: ids of further runs with entries for the same model.
    """

    run_id: str
    deleted: bool
    others: tuple[str, ...]
    connection: Connection

    @classmethod
    def find(cls, name: str) -> "HistoryRun | None":
        """Return the run of a model's history, None if there is none. Of several, it is the oldest one with entries."""
        from mlflow.entities import ViewType

        connection = connect()
        client = connection.client
        experiment = connection.call(client.get_experiment_by_name, EXPERIMENT)
        if experiment is None:
            return None
        ids, oldest_first = [experiment.experiment_id], ["attributes.start_time ASC", "attributes.run_id ASC"]
        found = connection.call(client.search_runs, ids, run_view_type=ViewType.ALL, order_by=oldest_first)
        # The name too: a deleted tag must not make the history disappear.
        runs = [run for run in found if name in (run.data.tags.get(MODEL_TAG), run.info.run_name)]
        with_entries = [run for run in runs if any(key.startswith(CLAIM) for key in run.data.params)]
        if not runs:
            return None
        run = (with_entries or runs)[0]
        deleted = "deleted" in (experiment.lifecycle_stage, run.info.lifecycle_stage)
        others = tuple(str(other.info.run_id) for other in with_entries[1:])
        return cls(str(run.info.run_id), deleted, others, connection)

    @classmethod
    def find_or_create(cls, name: str) -> "HistoryRun":
        """Like `find`, but create the run if necessary, and restore it if it was deleted."""
        connection = connect()
        client = connection.client
        experiment = connection.find_or_create_experiment(EXPERIMENT)
        if experiment.lifecycle_stage == "deleted":
            connection.call(client.restore_experiment, experiment.experiment_id)
        if (found := cls.find(name)) is None:
            tags = {MODEL_TAG: name, "mlflow.note.content": NOTE}
            made = connection.call(client.create_run, experiment.experiment_id, run_name=name, tags=tags)
            connection.call(client.set_terminated, made.info.run_id)
            found = cls.find(name)
            assert found is not None
            if found.run_id != made.info.run_id:  # another process was faster
                connection.call(client.delete_run, made.info.run_id)
        if found.deleted:
            connection.call(client.restore_run, found.run_id)
        return found

    def params(self, prefix: str) -> dict[str, str]:
        """Return the parameters whose key begins with `prefix`, without it."""
        params = self.connection.call(self.connection.client.get_run, self.run_id).data.params
        return {key.removeprefix(prefix): value for key, value in params.items() if key.startswith(prefix)}

    def claim(self, key: str, value: str) -> bool:
        """Set a parameter; return False if another writer gave it another value."""
        try:
            self.connection.call(self.connection.client.log_param, self.run_id, key, value)
        except TrackingError:
            if self.params(key).get("") in (None, value):  # without the prefix, which is the whole key
                raise
            return False
        return True

    # A writer that came second may remove its file between MLflow's list of the files and their download.
    @retry(retry=retry_if_exception_type(TrackingError), stop=stop_after_attempt(5), wait=wait_fixed(0.2), reraise=True)
    def files(self) -> dict[str, bytes]:
        """Return the content of all entries by file name, in the order of their names."""
        client = self.connection.client
        if not self.connection.call(client.list_artifacts, self.run_id, ENTRIES):
            return {}
        with tempfile.TemporaryDirectory() as scratch:
            folder = self.connection.call(client.download_artifacts, self.run_id, ENTRIES, scratch)
            return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir()) if path.is_file()}

    def write_file(self, name: str, content: str) -> None:
        self.connection.call(self.connection.client.log_text, self.run_id, content, f"{ENTRIES}/{name}")

    def delete_file(self, name: str) -> None:
        run = self.connection.call(self.connection.client.get_run, self.run_id)
        self.connection.call(self.connection.artifacts(run.info.artifact_uri).delete_artifacts, f"{ENTRIES}/{name}")
