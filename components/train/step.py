"""The step train: train a classifier and log the run to MLflow."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from audiocnn import plots
from audiocnn.classifier import Classifier
from audiocnn.config import TrainSettings
from audiocnn.data.clips import rows_of, split
from audiocnn.data.spectrogram_set import SpectrogramSet
from audiocnn.device import memory_errors, resolve_device
from audiocnn.model import count_parameters
from audiocnn.training.calibrating import calibrate
from audiocnn.training.capacity import trainings_that_fit
from audiocnn.training.captured import capture_obstacle
from audiocnn.training.checkpoint import fingerprint
from audiocnn.training.distributed import ProcessGroup, process_group
from audiocnn.training.loop import Training, check_batch_size, fit_many, named_errors, new_training
from audiocnn.training.state import Epoch
from components.train.environment import training_environment
from components.train.metrics import MetricsLogger
from mlops import tracking
from mlops.artifacts import ModelFolder, RunRecord, TrainingRequest
from mlops.checkpoint_store import CheckpointStore
from mlops.provenance import DIRTY, git_revision, training_code_version

LESS_MEMORY = "decrease train.batch_size, or --together if trainings run side by side"


def train(
    spectrograms: Path,
    request: TrainingRequest,
    output: Path,
    checkpoints: str,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> None:
    """Train a classifier on all folds except the test fold and the held-out folds, and log the run to MLflow.

    A killed training that is started again resumes from its checkpoint, in the same MLflow run. Under torchrun, the
    processes train together; the main process logs and writes.

    Args:
        output: the model folder to write (mlops.artifacts.ModelFolder). It appears complete or not at all.
        checkpoints: a folder's path or s3://bucket/prefix.
        on_epoch: called after each epoch that this call completes.
    Raises:
        AlreadyRunningError: another process runs the same training with the same `checkpoints`.
        TrainingError: the training diverged, or its batches are too small.
        DeviceError: the device is not available, or the GPU has not enough free memory.
    """
    train_many(spectrograms, [request], [output], checkpoints, on_epoch)


def train_many(
    spectrograms: Path,
    requests: Sequence[TrainingRequest],
    outputs: Sequence[Path],
    checkpoints: str,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> None:
    """Train several classifiers on the same device, as `train` does: on a GPU side by side, else one after another.

    Each has its own model folder in `outputs`, MLflow run and checkpoint. If one of them fails, all stop, and those
    that are started again resume.
    """
    for output in outputs:
        ModelFolder.check_output(output, [spectrograms])
    data = SpectrogramSet.open(spectrograms)
    device = resolve_device(requests[0].settings.device)
    with process_group(device) as group, memory_errors(LESS_MEMORY):
        trainings = [_prepare_training(data, request, device) for request in requests]
        for training in trainings:
            check_batch_size(training.train, group)
        if group.is_main:
            _print_sizes(trainings, device, group)
        with ExitStack() as stack:
            for training, request, output in zip(trainings, requests, outputs, strict=True):
                graph = not capture_obstacle(training.train, group)
                provenance = _provenance(data, request, training_environment(request.settings, device, group, graph))
                job = _Job(data, request, provenance, output, checkpoints)
                training.checkpoints = job.store
                if group.is_main:
                    stack.enter_context(job.logged(training, on_epoch))
            fit_many(trainings, group)


def trainings_side_by_side(spectrograms: Path, requests: Sequence[TrainingRequest]) -> int:
    """Return how many of these trainings `train_many` can run side by side; 1 without a GPU."""
    device, data = resolve_device(requests[0].settings.device), SpectrogramSet.open(spectrograms)
    # The trainings of a trial differ in the fold and the seed, which hardly change the memory.
    trials = {request.trial: request for request in requests}.values()
    with memory_errors(LESS_MEMORY):
        return min(trainings_that_fit(partial(_prepare_training, data, request, device), device) for request in trials)


def _prepare_training(data: SpectrogramSet, request: TrainingRequest, device: torch.device) -> Training:
    settings = request.settings
    rows = split(data.clips, **settings.roles)
    return new_training(
        data.without_classes(settings.leave_out), rows, settings, device, request.name if request.parent_run else ""
    )


def _print_sizes(trainings: Sequence[Training], device: torch.device, group: ProcessGroup) -> None:
    for training in trainings:
        clips = f"{training.train.clips} training and {training.test.clips} test clips"
        size = f"{count_parameters(training.network):,} parameters, {clips}"
        print(f"[train] {size}, on {group.size} x {device}", flush=True)
    obstacles = {capture_obstacle(training.train, group) for training in trainings} - {""}
    if device.type == "cuda" and obstacles:
        print(f"[train] without a CUDA graph, so slower: {'; '.join(sorted(obstacles))}", flush=True)


class _Job:
    """One requested training: its checkpoint, its MLflow run and its model folder."""

    def __init__(
        self,
        data: SpectrogramSet,
        request: TrainingRequest,
        provenance: dict[str, Any],
        output: Path,
        checkpoints: str,
    ) -> None:
        self._data, self._request, self._provenance, self._output = data, request, provenance, output
        self.store = CheckpointStore(checkpoints, fingerprint(request.settings, data.spec, training_code_version()))

    @contextmanager
    def logged(self, training: Training, on_epoch: Callable[[Epoch], None] | None) -> Iterator[None]:
        """Log the training that the block runs, and write its model at the end of the block."""
        with self.store.lock():
            with _start_or_resume_run(self.store, self._data, self._request, self._provenance) as run:
                metrics = MetricsLogger(run)
                completed = _follow(training, metrics, on_epoch)
                yield
                with named_errors(training.name):
                    self._finish(training, metrics, completed, run)
            if not self._request.parent_run:
                self.store.clear()

    def _finish(self, training: Training, metrics: MetricsLogger, completed: list[int], run: tracking.Run) -> None:
        """Log the epochs that MLflow lacks, and write the model folder and log its files."""
        settings = training.settings
        if not completed:
            print(f"[train] fold {settings.fold}: training was already complete in its checkpoint", flush=True)
        metrics.backfill(training.history, "" if self.store.write_failed else self.store.location)
        data = self._data.without_classes(settings.leave_out)
        rows = [*split(data.clips, **settings.roles), rows_of(data.clips, settings.calibration_fold, data.classes)]
        classifier = Classifier(training.network, data.settings, data.classes, self._provenance)
        if settings.calibration_fold is not None:
            classifier.calibration = calibrate(classifier, data, rows[-1], settings)
            print(f"[train] calibrated on fold {settings.calibration_fold}: {classifier.calibration}", flush=True)
        with ModelFolder.create(self._output) as folder:
            history = pd.DataFrame(map(asdict, training.history))
            record = RunRecord(run_id=run.run_id, checkpoint=self.store.name)
            folder.write(classifier.cpu(), history, data.clips, rows, record)
            _write_curves(history, settings.fold_role, folder.path / "curves")
            run.log_file(folder.path / "curves", "curves")
            for name in folder.logged:
                run.log_file(folder.path / name, "training")


def _follow(training: Training, metrics: MetricsLogger, on_epoch: Callable[[Epoch], None] | None) -> list[int]:
    """Print and log each epoch that the training completes; return the list to which their numbers are added."""
    settings, completed = training.settings, list[int]()

    def finish_epoch(epoch: Epoch) -> None:
        completed.append(epoch.epoch)
        metrics.log(epoch)
        print(_epoch_line(epoch, settings), flush=True)
        if on_epoch:
            on_epoch(epoch)

    def report_resume(epoch: int) -> None:
        if epoch <= settings.epochs:
            print(f"[train] fold {settings.fold}: resuming from a checkpoint in epoch {epoch}", flush=True)

    training.on_epoch, training.on_resume = finish_epoch, report_resume
    return completed


def _start_or_resume_run(
    store: CheckpointStore, data: SpectrogramSet, request: TrainingRequest, provenance: dict[str, Any]
) -> tracking.Run:
    """Return the MLflow run of an interrupted attempt, or a new one, and store its id."""
    previous = store.read_run_id()
    if tracking.task_run_id() not in ("", previous):  # Kubeflow created a run for this attempt
        previous = ""
    run = tracking.find_run(previous) if previous else None
    if run is not None and request.parent_run:
        run.set_parent(request.parent_run)
    if previous and run is None:
        print(f"[train] MLflow has no run {previous}, in which this training started; starting a new one", flush=True)
    run = run or _start_run(data, request, provenance)
    store.write_run_id(run.run_id)
    return run


def _start_run(data: SpectrogramSet, request: TrainingRequest, provenance: dict[str, Any]) -> tracking.Run:
    dataset, settings = data.spec["dataset"], request.settings
    trial = {"trial": request.trial} if request.trial else {}
    return tracking.start_run(
        name=f"{dataset['source']} {request.trial or request.recipe} fold {settings.fold} seed {settings.seed}",
        description=_description(request, provenance),
        params={
            **{name: provenance[name] for name in ("recipe", "train", "environment")},
            "spectrograms": data.settings.to_dict(),
        },
        tags={"git_revision": provenance["git_revision"], "dataset_digest": dataset["digest"], **trial},
        lineage=tracking.Lineage(**dataset),
        parent=request.parent_run,
    )


def _description(request: TrainingRequest, provenance: dict[str, Any]) -> str:
    """Return what distinguishes the run from others, as Markdown for its page in MLflow."""
    dataset, environment, settings = provenance["dataset"], provenance["environment"], request.settings
    commit, changed, _ = provenance["git_revision"].partition(DIRTY)
    trial = f"trial {request.trial}, " if request.trial else ""
    return (
        f"{trial}recipe {request.recipe}, {settings.epochs} epochs, {settings.fold_role} {settings.fold}, "
        f"seed {settings.seed}\n\n"
        f"- data: {dataset['clips']} clips from {dataset['source']}, digest `{dataset['digest'][:12]}`\n"
        f"- code: revision `{commit[:12]}`{' with the changes in the artifact code.diff' if changed else ''}\n"
        f"- computed on {environment['hardware']} ({environment['device']}) in {environment['precision']}, "
        f"{environment['threads']} CPU threads"
    )


def _epoch_line(epoch: Epoch, settings: TrainSettings) -> str:
    tested = "" if epoch.test_accuracy is None else f"  accuracy on the {settings.fold_role} {epoch.test_accuracy:.1%}"
    return f"[train] fold {settings.fold}, epoch {epoch.epoch}/{settings.epochs}  loss {epoch.train_loss:.3f}{tested}"


def _provenance(data: SpectrogramSet, request: TrainingRequest, environment: dict[str, Any]) -> dict[str, Any]:
    """Return what model.json contains beyond the classifier's own description."""
    return {
        "dataset": {**data.spec["dataset"], "test_fold": request.settings.fold},
        "recipe": request.recipe,
        "train": request.settings.to_dict(),
        "environment": environment,
        "git_revision": git_revision(),
    }


def _write_curves(history: pd.DataFrame, evaluated_on: str, folder: Path) -> None:
    folder.mkdir()
    for name, figure in plots.curves(history, evaluated_on).items():
        (folder / f"{name}.png").write_bytes(plots.png(figure))
