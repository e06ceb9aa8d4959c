"""An MLflow run: its parameters, metrics, tags and artifacts, and how it ends."""

import json
import math
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from mlops.runtime import sigterm_as_exit
from mlops.settings import flatten
from mlops.tracking.connection import Connection, TrackingError, redact

if TYPE_CHECKING:
    import mlflow
    import pandas as pd

T = TypeVar("T")
BATCH = 100  # MLflow's limit for parameters or tags in a request
SAMPLING_SECONDS = 5.0  # between system metrics; MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL overrides it
PARENT_TAG = "mlflow.parentRunId"
TABLES_TAG = "mlflow.loggedArtifacts"  # MLflow's page finds tables by this tag
DIGEST_LENGTH = 36  # MLflow's limit for digests of data sets; the complete one is in the source and in a tag


@dataclass(frozen=True)
class Lineage:
    """The training data of a run.

    Attributes:
        digest: SHA-256 digest of the data set.
        source: short name of the data set.
        origin: where the data set comes from.
    """

    digest: str
    source: str
    clips: int
    origin: str = ""


class Run:
    """An MLflow run.

    In a `with` block its status is RUNNING and system metrics are logged. It ends as FINISHED, as FAILED after an
    exception, or as KILLED after Ctrl-C or SIGTERM. A failed or killed run ends its parent with the same status, since
    no process would do it later. Metrics, tags and artifacts can also be added after the run has ended.

    All methods raise TrackingError if MLflow refuses or does not answer.
    """

    def __init__(self, connection: Connection, run_id: str, parent: str = "") -> None:
        self.run_id = run_id
        self._connection = connection
        self._parent = parent
        self._block = ExitStack()

    def __enter__(self) -> Self:
        client = self._connection.client
        self._connection.call(client.update_run, self.run_id, "RUNNING")
        self._connection.find(client.delete_tag, self.run_id, "failure")  # of an earlier attempt
        self._block.callback(self._connection.call(_start_system_metrics, self._connection.uri, self.run_id))
        self._block.enter_context(sigterm_as_exit())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self._block.close()
        try:
            if error is not None:
                self.set_tags({"failure": _first_line(error)})
            self._connection.call(self._connection.client.set_terminated, self.run_id, _status(kind))
            if error is not None and self._parent:
                Run(self._connection, self._parent).__exit__(kind, error, _traceback)
        except TrackingError as tracking_error:
            if error is None:
                raise
            # The original error is raised; it must not be replaced by this one.
            message = f"[tracking] the end of run {self.run_id} could not be recorded: {tracking_error}"
            print(message, file=sys.stderr, flush=True)

    @contextmanager
    def end_on_error(self) -> Iterator[None]:
        """End the run if the block raises an exception, like its own `with` block does."""
        try:
            yield
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise

    def set_parent(self, parent: str) -> None:
        """Nest the run in another parent run.

        A previous parent that is still RUNNING ends as KILLED: its process was killed, and no other process would end
        it.

        Raises:
            TrackingError: the parent does not exist, or was deleted.
        """
        check_parent(self._connection, parent)
        if parent == self._parent:
            return
        self.set_tags({PARENT_TAG: parent})
        previous = active_run(self._connection, self._parent) if self._parent else None
        if previous is not None and previous.info.status == "RUNNING":
            self._connection.call(self._connection.client.set_terminated, self._parent, "KILLED")
        self._parent = parent

    def log_metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Log metrics that were measured now; see `log_points`."""
        self.log_points([(values, step, time.time())])

    def log_points(self, points: Iterable[tuple[Mapping[str, float], int, float]]) -> None:
        """Log metrics of several steps in one request, of up to 1,000 values.

        Args:
            points: the values, the step, such as the epoch, and the time in seconds since 1970.
        Raises:
            TrackingError: a value is NaN or infinite.
        """
        from mlflow.entities import Metric

        metrics = []
        for values, step, at in points:
            for key, value in values.items():
                if not math.isfinite(value):
                    raise TrackingError(f"the metric {key!r} is {value} at step {step}; metrics must be finite")
                metrics.append(Metric(key, float(value), int(1000 * at), step))
        self._connection.call(self._connection.client.log_batch, self.run_id, metrics=metrics)

    def logged_steps(self, metric: str) -> set[int]:
        points = self._connection.call(self._connection.client.get_metric_history, self.run_id, metric)
        return {int(point.step) for point in points}

    def tags(self) -> dict[str, str]:
        return dict(self._connection.call(self._connection.client.get_run, self.run_id).data.tags)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        for batch in _batches([RunTag(key, str(value)) for key, value in tags.items()]):
            self._connection.call(self._connection.client.log_batch, self.run_id, tags=batch)

    def log_text(self, text: str, path: str) -> None:
        """Write or replace the text artifact `path`."""
        self._connection.call(self._connection.client.log_text, self.run_id, text, path)

    def log_file(self, path: Path, folder: str = "") -> None:
        """Upload a file, or the content of a folder, to the artifact folder `folder`."""
        client = self._connection.client
        log = client.log_artifacts if path.is_dir() else client.log_artifact
        self._connection.call(log, self.run_id, str(path), folder or None)

    def log_table(self, frame: "pd.DataFrame", path: str) -> None:
        """Write or replace the table artifact `path` (.json), which MLflow's page can compare across runs."""
        self.log_text(frame.to_json(orient="split", index=False), path)
        # MlflowClient.log_table would append to a table of an earlier attempt.
        tables = [table for table in json.loads(self.tags().get(TABLES_TAG, "[]")) if table["path"] != path]
        self.set_tags({TABLES_TAG: json.dumps([*tables, {"path": path, "type": "table"}])})

    def log_params(self, params: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        for batch in _batches([Param(key, str(value)) for key, value in flatten(params).items()]):
            self._connection.call(self._connection.client.log_batch, self.run_id, params=batch)

    def log_dataset(self, lineage: Lineage) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        source = json.dumps({"tags": {"source": lineage.source, "origin": lineage.origin, "digest": lineage.digest}})
        profile = json.dumps({"clips": lineage.clips})
        dataset = Dataset(lineage.source, lineage.digest[:DIGEST_LENGTH], "code", source, profile=profile)
        inputs = [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])]
        # Concurrent runs may insert the same data set.
        self._connection.upsert(self._connection.client.log_inputs, self.run_id, inputs)


def active_run(connection: Connection, run_id: str) -> "mlflow.entities.Run | None":
    """Return MLflow's record of a run; None if it does not exist or was deleted."""
    run = connection.find(connection.client.get_run, run_id)
    return run if run is not None and run.info.lifecycle_stage == "active" else None


def check_parent(connection: Connection, parent: str) -> None:
    """Raise TrackingError if there is a parent, and it does not exist or was deleted."""
    if parent and active_run(connection, parent) is None:
        raise TrackingError(
            f"MLflow at {redact(connection.uri)}: the parent run {parent!r} does not exist, or was deleted; choose "
            "an existing one"
        )


def _start_system_metrics(uri: str, run_id: str) -> Any:
    """Start to log CPU, memory, disk, network and GPU metrics; return a function that stops it."""
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    monitor = SystemMetricsMonitor(run_id, SAMPLING_SECONDS, resume_logging=True, tracking_uri=uri)
    monitor.collect_metrics()
    monitor.publish_metrics(monitor.aggregate_metrics())  # one sample also for a run that is shorter than an interval
    monitor.start()
    return monitor.finish


def _status(kind: type[BaseException] | None) -> str:
    if kind is None:
        return "FINISHED"
    return "KILLED" if issubclass(kind, KeyboardInterrupt | SystemExit) else "FAILED"


def _first_line(error: BaseException) -> str:
    first = f"{type(error).__name__}: {error}".splitlines()[0].removesuffix(": ")
    return " ".join([first, *getattr(error, "__notes__", ())])[:500]


def _batches(items: list[T]) -> Iterator[list[T]]:
    for start in range(0, len(items), BATCH):
        yield items[start : start + BATCH]
