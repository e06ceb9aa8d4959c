"""Runs: one training each, with its settings, its data, its curves and what became of it."""

import getpass
import json
import math
import os
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from mlops.provenance import code_digest, git_revision
from mlops.runtime import sigterm_as_exit
from mlops.tracking.server import Server, TrackingError, experiment_id, server, shown

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

BATCH = 100  # parameters or tags a request, MLflow's limit
SAMPLING_SECONDS = 5.0  # of system metrics, unless MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL says otherwise
PARENT = "mlflow.parentRunId"  # the tag by which MLflow's page nests runs
TABLES = "mlflow.loggedArtifacts"  # the tag in which MLflow's page looks for tables
DIGEST_LENGTH = 36  # MLflow's limit for the digest of a data set; the whole one stands in its source and in a tag


@dataclass(frozen=True)
class Lineage:
    """The data that a run learns from: SHA-256 of its table, its name in short, how many clips it has, its origin."""

    digest: str
    source: str
    clips: int
    origin: str = ""


class Run:
    """One MLflow run.

    In a `with` block it is RUNNING and samples system metrics; it ends FINISHED, FAILED on an exception, KILLED on
    Ctrl-C or SIGTERM, and these two its parent with it, which would else wait for ever. Without the block a run that
    has ended can still be given metrics, tags and files.
    Every method raises TrackingError when MLflow refuses or does not answer.
    """

    def __init__(self, at: Server, run_id: str, parent: str = "") -> None:
        self.run_id = run_id
        self._at = at
        self._parent = parent
        self._monitor: _SystemMetrics | None = None
        self._block = ExitStack()
        self._left = False

    def __enter__(self) -> Self:
        self._at.call(self._at.client.update_run, self.run_id, "RUNNING")
        self._at.found(self._at.client.delete_tag, self.run_id, "failure")  # of an earlier try
        self._monitor = self._at.call(_SystemMetrics, self._at, self.run_id)
        self._monitor.start()
        self._block.enter_context(sigterm_as_exit())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self._block.close()
        try:
            if self._monitor is not None:
                self._at.call(self._monitor.finish)
            if self._left:
                return
            if error is not None:
                self.tags({"failure": _first_line(error)})
            self._at.call(self._at.client.set_terminated, self.run_id, _status(kind))
            if error is not None and self._parent:
                Run(self._at, self._parent).__exit__(kind, error, _traceback)
        except TrackingError as lost:
            if error is None:
                raise
            # What went wrong in the block matters more than that MLflow could not be told.
            print(f"[tracking] the end of run {self.run_id} is not recorded: {lost}", file=sys.stderr, flush=True)

    def metrics(self, values: Mapping[str, float], step: int | None = None, at: float | None = None) -> None:
        """Record numbers at a step.

        Args:
            at: when they were measured, in seconds since 1970; now, without it.
        Raises:
            TrackingError: a number is NaN or infinite, which no chart shows.
        """
        from mlflow.entities import Metric

        check_finite(values, step)
        moment = int(1000 * (time.time() if at is None else at))
        batch = [Metric(key, float(value), moment, step or 0) for key, value in values.items()]
        self._at.call(self._at.client.log_batch, self.run_id, metrics=batch)

    def leave(self) -> None:
        """Leave the run's end to another process, which has gone on with it."""
        self._left = True

    @contextmanager
    def ended_by_errors(self) -> Iterator[None]:
        """A block that ends the run only where it fails, as the run's own block would; else the run goes on."""
        try:
            yield
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise

    def steps(self, metric: str) -> set[int]:
        """The steps at which a metric was recorded."""
        points = self._at.call(self._at.client.get_metric_history, self.run_id, metric)
        return {int(point.step) for point in points}

    def tags(self, tags: Mapping[str, str]) -> None:
        """Set tags, replacing those of the same name."""
        from mlflow.entities import RunTag

        for part in _batches([RunTag(key, str(value)) for key, value in tags.items()]):
            self._at.call(self._at.client.log_batch, self.run_id, tags=part)

    def text(self, text: str, path: str) -> None:
        """Keep `text` as the artifact `path`, replacing it."""
        self._at.call(self._at.client.log_text, self.run_id, text, path)

    def file(self, path: Path, folder: str = "") -> None:
        """Keep a file, or a folder's content, in the artifact folder `folder`."""
        log = self._at.client.log_artifacts if path.is_dir() else self._at.client.log_artifact
        self._at.call(log, self.run_id, str(path), folder or None)

    def figure(self, figure: "Figure", path: str) -> None:
        """Keep a matplotlib figure as the artifact `path`, a picture by its suffix."""
        self._at.call(self._at.client.log_figure, self.run_id, figure, path)

    def table(self, frame: "pd.DataFrame", path: str) -> None:
        """Keep a table as the artifact `path`, replacing it.

        A .csv is shown with its file; a .json is MLflow's own kind of table and can be compared across runs.
        """
        text = frame.to_csv(index=False) if path.endswith(".csv") else frame.to_json(orient="split", index=False)
        self.text(text, path)
        if not path.endswith(".csv"):
            # client.log_table does the same but appends to a table of that name, so that a repeated step doubles it.
            known = self._at.call(self._at.client.get_run, self.run_id).data.tags.get(TABLES, "[]")
            tables = [item for item in json.loads(known) if item["path"] != path]
            self.tags({TABLES: json.dumps([*tables, {"path": path, "type": "table"}])})

    def _params(self, params: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        for part in _batches([Param(key, str(value)) for key, value in _flat(params, "")]):
            self._at.call(self._at.client.log_batch, self.run_id, params=part)

    def _dataset(self, lineage: Lineage) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        source = json.dumps({"tags": {"source": lineage.source, "origin": lineage.origin, "digest": lineage.digest}})
        profile = json.dumps({"clips": lineage.clips})
        dataset = Dataset(lineage.source, lineage.digest[:DIGEST_LENGTH], "code", source, profile=profile)
        given = DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])
        self._at.put(self._at.client.log_inputs, self.run_id, [given])  # the first runs of a data set may come at once


def start_run(name: str, params: Mapping[str, Any], tags: Mapping[str, str], lineage: Lineage, parent: str = "") -> Run:
    """A new run that knows its settings (nested ones as `train.epochs`), its code and its data.

    Args:
        parent: the id of the run under which it is shown; none, without it.
    Raises:
        TrackingError: MLflow does not answer, or refuses, or knows no such parent.
    """
    at = server()
    _require_parent(at, parent)
    own = {
        "mlflow.user": user(),
        "mlflow.source.git.commit": git_revision(),
        "code_digest": code_digest(),
        "dataset_digest": lineage.digest,
        "dataset_source": lineage.source,
        "dataset_origin": lineage.origin,
        **({PARENT: parent} if parent else {}),
    }
    made = at.call(at.client.create_run, experiment_id(at), tags={**own, **tags}, run_name=name)
    run = Run(at, str(made.info.run_id), parent)
    with run.ended_by_errors():
        run._params(params)
        run._dataset(lineage)
    return run


def find_run(run_id: str, parent: str = "") -> Run | None:
    """The run of that id, to go on with; None where there is none, or it was deleted.

    Args:
        parent: the id of the run under which it is shown from now on; without it, it stays where it is. A parent that
            it leaves while that is RUNNING ends KILLED: who led it was killed, and nobody else would end it.
    Raises:
        TrackingError: MLflow does not answer, or knows no such parent.
    """
    at = server()
    _require_parent(at, parent)
    known = _active(at, run_id)
    if known is None:
        return None
    before = known.data.tags.get(PARENT, "")
    run = Run(at, run_id, parent or before)
    if parent and parent != before:
        run.tags({PARENT: parent})
        left = _active(at, before) if before else None
        if left is not None and left.info.status == "RUNNING":
            at.call(at.client.set_terminated, before, "KILLED")
    return run


def resume_run(run_id: str) -> Run:
    """The run of that id, to add to; it stays under its parent.

    Raises:
        TrackingError: there is none, or MLflow does not answer.
    """
    run = find_run(run_id)
    if run is None:
        raise TrackingError(f"MLflow at {shown(server().uri)}: Run with id={run_id} not found, or it was deleted")
    return run


def _active(at: Server, run_id: str) -> Any:
    known = at.found(at.client.get_run, run_id)
    return known if known is not None and known.info.lifecycle_stage == "active" else None


def _require_parent(at: Server, parent: str) -> None:
    if parent and _active(at, parent) is None:
        raise TrackingError(
            f"MLflow at {shown(at.uri)} has no run {parent!r} to stand under, or it was deleted; name one that is there"
        )


class _SystemMetrics:
    """MLflow's own monitor of CPU, memory, disk, network and GPU, which also samples a run too short for it."""

    def __init__(self, at: Server, run_id: str) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # about the name of the package that reads the GPU
            from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

            self._monitor = SystemMetricsMonitor(run_id, SAMPLING_SECONDS, resume_logging=True, tracking_uri=at.uri)
        self._first_step = self._monitor._logging_step

    def start(self) -> None:
        self._monitor.start()

    def finish(self) -> None:
        self._monitor.finish()
        if self._monitor._logging_step == self._first_step:
            self._monitor.collect_metrics()
            self._monitor.publish_metrics(self._monitor.aggregate_metrics())
            self._monitor.mlflow_logger.flush()


def _status(kind: type[BaseException] | None) -> str:
    if kind is None:
        return "FINISHED"
    return "KILLED" if issubclass(kind, KeyboardInterrupt | SystemExit) else "FAILED"


def check_finite(values: Mapping[str, float], step: int | None) -> None:
    """Raises TrackingError for a number that is NaN or infinite."""
    for key, value in values.items():
        if not math.isfinite(value):
            raise TrackingError(f"the metric {key!r} is {value} at step {step or 0}; only finite numbers are kept")


def _first_line(error: BaseException) -> str:
    first = f"{type(error).__name__}: {error}".splitlines()[0].removesuffix(": ")
    return " ".join([first, *getattr(error, "__notes__", ())])[:500]


def _flat(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _batches(items: list[Any]) -> Iterator[list[Any]]:
    for start in range(0, len(items), BATCH):
        yield items[start : start + BATCH]


def user() -> str:
    """Who is at work, as records name them."""
    if known := os.environ.get("MLFLOW_TRACKING_USERNAME"):
        return known
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's number without a name
        return "unknown"
