"""The work of the step train."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from audiocnn import plots
from audiocnn.atomic import atomic_folder, check_output
from audiocnn.classifier import METADATA_FILE, Classifier
from audiocnn.config import TrainSettings
from audiocnn.data.batches import batches
from audiocnn.data.clips import split
from audiocnn.data.spectrogram_set import SpectrogramSet
from audiocnn.device import resolve_device
from audiocnn.errors import AudioCNNError
from audiocnn.model import AudioCNN, count_parameters
from audiocnn.training.checkpoint import CheckpointError
from audiocnn.training.distributed import world
from audiocnn.training.loop import Epoch, fingerprint, fit
from mlops import tracking
from mlops.artifacts import TrainingRequest
from mlops.checkpoint_store import AlreadyRunningError, CheckpointStore
from mlops.provenance import git_revision, training_code_version

PATIENCE_SECONDS = 600.0  # at the end, for an MLflow that went away while it trained


def train(spectrograms: Path, request: TrainingRequest, output: Path, checkpoints: str) -> None:
    """Train a classifier on all folds but `request.settings.fold` and log the run to MLflow.

    Writes model.safetensors, model.json, history.csv, curves/, clips.csv (which clip was in which split) and run.json
    (the MLflow run, and what the checkpoint is called) to `output`, which appears whole or not at all. A killed run
    resumes from `checkpoints` when the same training is started again, in the same MLflow run. Under torchrun the
    processes train together, and the first of them logs and writes.

    Args:
        checkpoints: a folder's path or s3://bucket/prefix.
    Raises:
        AlreadyRunningError: the same training runs already, with the same `checkpoints`.
        DatasetError, TrainingError, CheckpointError, TrackingError, DeviceError, OutputError: see there.
    """
    settings = request.settings
    check_output(output, METADATA_FILE, [spectrograms])
    data = SpectrogramSet.open(spectrograms)
    rows = split(data.clips, settings.fold, settings.hold_out)
    saved = CheckpointStore(checkpoints, fingerprint(settings, data.spec, training_code_version()))
    device = resolve_device(settings.device)
    with world(device) as together:
        torch.manual_seed(settings.seed)  # the weights' first values
        network = AudioCNN(len(data.classes), data.settings.n_mels, settings.architecture)
        clips, test_clips = (batches(data, part, settings.batch_size, device, settings.resident_mb) for part in rows)

        def training(on_epoch: Callable[[Epoch], None]) -> list[Epoch]:
            try:
                return fit(network, clips, test_clips, settings, on_epoch, saved, together)
            except CheckpointError as error:
                raise CheckpointError(f"{saved.place}: {error}; delete it to start anew") from error

        if not together.is_main:
            training(lambda _: None)
            return
        size = count_parameters(network)
        print(
            f"[train] {size:,} parameters, {clips.clips} training and {test_clips.clips} test clips, "
            f"on {together.size} x {device}",
            flush=True,
        )
        with saved.held():
            with _run(saved, data, request) as run, _named(request):
                curves = _Curves(run, settings, saved)
                history = curves.follow(training)
                with _kept(saved):
                    table = curves.finish(history)
                    classifier = Classifier(network.cpu(), data.settings, data.classes, _provenance(data, request))
                    _write(classifier, table, data, rows, settings, run, saved.training, output)
            if not request.parent_run:
                saved.clear()


@contextmanager
def _kept(saved: CheckpointStore) -> Iterator[None]:
    """Tell that nothing has to be trained again where MLflow refuses what was trained."""
    try:
        yield
    except tracking.TrackingError:
        if not saved.failing:
            print(f"[train] trained, and kept in {saved.place}: start it again to record it", flush=True)
        raise


@contextmanager
def _named(request: TrainingRequest) -> Iterator[None]:
    """Tell which of many trainings an error is of."""
    try:
        yield
    except AudioCNNError as error:
        if request.parent_run:
            error.add_note(f"This was the training of {request.name}.")
        raise


def _run(saved: CheckpointStore, data: SpectrogramSet, request: TrainingRequest) -> tracking.Run:
    """The MLflow run of this training, which it claims: the one that an interrupted try began, or a new one."""
    begun = saved.run_id
    run = tracking.find_run(begun, request.parent_run) if begun else None
    if begun and run is None:
        print(f"[train] MLflow has no run {begun} (any more), in which this training began: beginning one", flush=True)
    run = run or _begin(data, request)
    saved.claim(run.run_id)
    return run


def _begin(data: SpectrogramSet, request: TrainingRequest) -> tracking.Run:
    described, settings = data.spec["dataset"], request.settings
    trial = {"trial": request.trial} if request.trial else {}
    return tracking.start_run(
        name=f"{described['source']} {request.trial or request.recipe} fold {settings.fold} seed {settings.seed}",
        params={"recipe": request.recipe, "train": settings.to_dict(), "spectrograms": data.settings.to_dict()},
        tags={"git_revision": git_revision(), "dataset_digest": described["digest"], **trial},
        lineage=tracking.Lineage(**described),
        parent=request.parent_run,
    )


class _Curves:
    """Every epoch's figures, on screen and once in MLflow, in whichever try of the training they came to be."""

    def __init__(self, run: tracking.Run, settings: TrainSettings, saved: CheckpointStore) -> None:
        self._run, self._settings, self._saved = run, settings, saved
        self._recorded = run.steps("train_loss")
        self._told = False
        self._send = tracking.LiveMetrics(run)

    def follow(self, training: Callable[[Callable[[Epoch], None]], list[Epoch]]) -> list[Epoch]:
        """Train; the history."""
        try:
            history = training(self._on_epoch)
        except BaseException as error:
            self._send.abandon()
            if isinstance(error, AlreadyRunningError) and error.run_id == self._run.run_id:
                self._run.leave()
            raise
        if not self._told:
            print(
                f"[train] fold {self._settings.fold} was trained before, and is taken from its checkpoint", flush=True
            )
        return history

    def finish(self, history: list[Epoch]) -> pd.DataFrame:
        """Record what a killed process trained and could not send any more, and wait until MLflow has all.

        Returns:
            the history, one row an epoch.
        Raises:
            TrackingError: it does not answer.
        """
        for epoch in history:
            self._record(epoch)
        self._send.finish(PATIENCE_SECONDS)
        return pd.DataFrame(map(asdict, history))

    def _on_epoch(self, epoch: Epoch) -> None:
        self._told = True
        self._saved.check()  # else two processes would record the same epochs
        self._record(epoch)
        _said(epoch, self._settings)

    def _record(self, epoch: Epoch) -> None:
        if epoch.epoch not in self._recorded:
            values = {key: value for key, value in asdict(epoch).items() if key != "epoch" and value is not None}
            self._send(values, epoch.epoch)
            self._recorded.add(epoch.epoch)


def _said(epoch: Epoch, settings: TrainSettings) -> None:
    tested = "" if epoch.test_accuracy is None else f"  accuracy on the {settings.fold_role} {epoch.test_accuracy:.1%}"
    print(
        f"[train] fold {settings.fold}, epoch {epoch.epoch}/{settings.epochs}  loss {epoch.train_loss:.3f}{tested}",
        flush=True,
    )


def _write(
    classifier: Classifier,
    history: pd.DataFrame,
    data: SpectrogramSet,
    rows: Any,
    settings: TrainSettings,
    run: tracking.Run,
    checkpoint: str,
    output: Path,
) -> None:
    """The model folder, and its files in the run."""
    with atomic_folder(output, METADATA_FILE) as part:
        classifier.save(part)
        history.to_csv(part / "history.csv", index=False)
        _write_split(data, rows, part / "clips.csv")
        _write_curves(history, settings.fold_role, part / "curves", run)
        record = {"run_id": run.run_id, "checkpoint": checkpoint}
        (part / "run.json").write_text(json.dumps(record) + "\n", encoding="utf-8")
        for name in ("history.csv", "clips.csv"):
            run.file(part / name, "training")


def _provenance(data: SpectrogramSet, request: TrainingRequest) -> dict[str, Any]:
    """What model.json says beyond what the classifier itself knows."""
    described = data.spec["dataset"]
    return {
        "dataset": {**described, "test_fold": request.settings.fold},
        "recipe": request.recipe,
        "train": request.settings.to_dict(),
        "git_revision": git_revision(),
    }


def _write_split(data: SpectrogramSet, rows: Any, path: Path) -> None:
    table = data.clips[["filename", "md5", "fold"]].copy()
    table["split"] = "held out"
    for name, part in zip(("train", "test"), rows, strict=True):
        table.iloc[part, table.columns.get_loc("split")] = name
    table.to_csv(path, index=False)


def _write_curves(history: pd.DataFrame, tested: str, folder: Path, run: tracking.Run) -> None:
    folder.mkdir()
    for name, figure in plots.curves(history, tested).items():
        (folder / f"{name}.png").write_bytes(plots.png(figure))
        run.file(folder / f"{name}.png", "curves")
