"""The step train: train a classifier and log the run to MLflow."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from audiocnn import plots
from audiocnn.classifier import Classifier
from audiocnn.config import TrainSettings
from audiocnn.data.batches import batches
from audiocnn.data.clips import split
from audiocnn.data.spectrogram_set import SpectrogramSet
from audiocnn.device import resolve_device
from audiocnn.errors import AudioCNNError
from audiocnn.model import AudioCNN, count_parameters
from audiocnn.training.checkpoint import fingerprint
from audiocnn.training.distributed import process_group
from audiocnn.training.loop import check_batch_size, fit
from audiocnn.training.state import Epoch
from components.train.environment import training_environment
from components.train.metrics import MetricsLogger
from mlops import tracking
from mlops.artifacts import ModelFolder, RunRecord, TrainingRequest
from mlops.checkpoint_store import CheckpointStore
from mlops.provenance import git_revision, training_code_version


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
        on_epoch: called after each epoch that this call completes and logs.
    Raises:
        AlreadyRunningError: another process runs the same training with the same `checkpoints`.
        TrainingError: the training diverged, or its batches are too small.
    """
    settings = request.settings
    ModelFolder.check_output(output, [spectrograms])
    data = SpectrogramSet.open(spectrograms)
    rows = split(data.clips, settings.fold, settings.hold_out)
    device = resolve_device(settings.device)
    store = CheckpointStore(checkpoints, fingerprint(settings, data.spec, training_code_version()))
    with process_group(device) as group:
        network = _initial_network(data, settings)
        clips, test_clips = (batches(data, part, settings.batch_size, device, settings.resident_mb) for part in rows)
        check_batch_size(clips, group)
        fit_network = partial(fit, network, clips, test_clips, settings, checkpoints=store, group=group)
        if not group.is_main:
            fit_network()
            return
        size = f"{count_parameters(network):,} parameters, {clips.clips} training and {test_clips.clips} test clips"
        print(f"[train] {size}, on {group.size} x {device}", flush=True)
        provenance = _provenance(data, request, training_environment(settings, device, group))
        with store.lock():
            with _start_or_resume_run(store, data, request, provenance) as run, _name_in_errors(request):
                history = _fit_and_log(fit_network, run, store, settings, on_epoch)
                classifier = Classifier(network.cpu(), data.settings, data.classes, provenance)
                _write_model(output, classifier, history, data, rows, settings, run, store.name)
            if not request.parent_run:
                store.clear()


def _initial_network(data: SpectrogramSet, settings: TrainSettings) -> AudioCNN:
    torch.manual_seed(settings.seed)
    return AudioCNN(len(data.classes), data.settings.n_mels, settings.architecture)


def _fit_and_log(
    fit_network: Callable[..., list[Epoch]],
    run: tracking.Run,
    store: CheckpointStore,
    settings: TrainSettings,
    on_epoch: Callable[[Epoch], None] | None,
) -> list[Epoch]:
    """Train, print and log each epoch, and return all epochs, those before a resume included."""
    metrics = MetricsLogger(run)
    completed = []

    def finish_epoch(epoch: Epoch) -> None:
        completed.append(epoch.epoch)
        metrics.log(epoch)
        print(_epoch_line(epoch, settings), flush=True)
        if on_epoch:
            on_epoch(epoch)

    def report_resume(epoch: int) -> None:
        if epoch <= settings.epochs:
            print(f"[train] fold {settings.fold}: resuming from a checkpoint in epoch {epoch}", flush=True)

    history = fit_network(on_epoch=finish_epoch, on_resume=report_resume)
    if not completed:
        print(f"[train] fold {settings.fold}: training was already complete in its checkpoint", flush=True)
    metrics.backfill(history, "" if store.write_failed else store.location)
    return history


def _write_model(
    output: Path,
    classifier: Classifier,
    history: list[Epoch],
    data: SpectrogramSet,
    rows: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]],
    settings: TrainSettings,
    run: tracking.Run,
    checkpoint: str,
) -> None:
    """Write the model folder and log its files to the run."""
    with ModelFolder.create(output) as folder:
        table = pd.DataFrame(map(asdict, history))
        folder.write(classifier, table, data.clips, rows, RunRecord(run_id=run.run_id, checkpoint=checkpoint))
        _write_curves(table, settings.fold_role, folder.path / "curves")
        _log_files(run, folder)


@contextmanager
def _name_in_errors(request: TrainingRequest) -> Iterator[None]:
    """Add a note to errors that says which of several trainings failed."""
    try:
        yield
    except AudioCNNError as error:
        if request.parent_run:
            error.add_note(f"Failed training: {request.name}")
        raise


def _start_or_resume_run(
    store: CheckpointStore, data: SpectrogramSet, request: TrainingRequest, provenance: dict[str, Any]
) -> tracking.Run:
    """Return the MLflow run of an interrupted attempt, or a new one, and store its id."""
    previous = store.read_run_id()
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
        params={
            **{name: provenance[name] for name in ("recipe", "train", "environment")},
            "spectrograms": data.settings.to_dict(),
        },
        tags={"git_revision": provenance["git_revision"], "dataset_digest": dataset["digest"], **trial},
        lineage=tracking.Lineage(**dataset),
        parent=request.parent_run,
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


def _log_files(run: tracking.Run, folder: ModelFolder) -> None:
    run.log_file(folder.path / "curves", "curves")
    for name in folder.logged:
        run.log_file(folder.path / name, "training")
