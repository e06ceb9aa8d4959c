"""The work of the step train."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from audiocnn import plots
from audiocnn.atomic import atomic_file, atomic_folder
from audiocnn.classifier import Classifier
from audiocnn.dataset import Batches, SpectrogramSet, split
from audiocnn.model import AudioCNN, count_parameters, resolve_device
from audiocnn.params import as_dict
from audiocnn.settings import TrainSettings
from audiocnn.training import Epoch, fingerprint, fit
from components import tracking
from components.revision import git_revision


def train(spectrograms: Path, settings: TrainSettings, output: Path, checkpoints: Path) -> None:
    """Train a classifier on all folds but `settings.fold` and log the run to MLflow.

    Writes model.safetensors, model.json, history.csv, curves/, clips.csv (which clip was in which split) and run.json
    (the MLflow run) to `output`, which appears whole or not at all. A killed run resumes from `checkpoints` when the
    same training is started again, in the same MLflow run.

    Raises:
        DatasetError, TrainingError, TrackingError, DeviceError: see there.
    """
    data = SpectrogramSet.open(spectrograms)
    train_rows, test_rows = split(data.clips, settings.fold)
    device = resolve_device(settings.device)
    torch.manual_seed(settings.seed)  # the weights' first values
    network = AudioCNN(len(data.classes), settings.width, settings.dropout)
    size, clips = count_parameters(network), f"{len(train_rows)} training and {len(test_rows)} test clips"
    print(f"[train] {size:,} parameters, {clips}, on {device}", flush=True)
    state = checkpoints / fingerprint(settings, data.spec)
    train_batches, test_batches = (Batches(data, rows, settings.batch_size, device) for rows in (train_rows, test_rows))
    with _run(state, data, settings) as run:

        def on_epoch(epoch: Epoch) -> None:
            values = {key: value for key, value in asdict(epoch).items() if key != "epoch"}
            run.metrics(values, step=epoch.epoch)
            print(
                f"[train] epoch {epoch.epoch}/{settings.epochs}  loss {epoch.train_loss:.3f}  "
                f"test-fold accuracy {epoch.test_accuracy:.1%}",
                flush=True,
            )

        history = pd.DataFrame(
            map(asdict, fit(network, train_batches, test_batches, settings, on_epoch, state / "last.pt"))
        )
        classifier = Classifier(network.cpu(), data.settings, data.classes, _provenance(data, settings))
        with atomic_folder(output) as part:
            classifier.save(part)
            history.to_csv(part / "history.csv", index=False)
            _write_split(data, test_rows, part / "clips.csv")
            _write_curves(history, part / "curves", run)
            (part / "run.json").write_text(json.dumps({"run_id": run.run_id}) + "\n", encoding="utf-8")
            for name in ("history.csv", "clips.csv"):
                run.file(part / name, "training")
    shutil.rmtree(state, ignore_errors=True)


def _run(state: Path, data: SpectrogramSet, settings: TrainSettings) -> tracking.Run:
    """The MLflow run of this training: the one that an interrupted try began, or a new one."""
    memo = state / "run.json"
    if memo.is_file() and (state / "last.pt").is_file():
        return tracking.resume_run(json.loads(memo.read_text(encoding="utf-8"))["run_id"])
    described = data.spec["dataset"]
    run = tracking.start_run(
        name=f"{described['source']} {settings.recipe} fold {settings.fold} seed {settings.seed}",
        params={"train": as_dict(settings), "spectrograms": as_dict(data.settings)},
        tags={"git_revision": git_revision(), "dataset_digest": described["digest"]},
        lineage=tracking.Lineage(**described),
    )
    with atomic_file(memo) as part:
        part.write_text(json.dumps({"run_id": run.run_id}), encoding="utf-8")
    return run


def _provenance(data: SpectrogramSet, settings: TrainSettings) -> dict[str, Any]:
    """What model.json says beyond what the classifier itself knows."""
    described = data.spec["dataset"]
    return {
        "dataset": {**described, "test_fold": settings.fold},
        "train": as_dict(settings),
        "git_revision": git_revision(),
    }


def _write_split(data: SpectrogramSet, test_rows: Any, path: Path) -> None:
    table = data.clips[["filename", "md5", "fold"]].copy()
    table["split"] = "train"
    table.iloc[test_rows, table.columns.get_loc("split")] = "test"
    table.to_csv(path, index=False)


def _write_curves(history: pd.DataFrame, folder: Path, run: tracking.Run) -> None:
    folder.mkdir()
    for name, figure in plots.curves(history).items():
        (folder / f"{name}.png").write_bytes(plots.png(figure))
        run.file(folder / f"{name}.png", "curves")
