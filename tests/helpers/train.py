"""The step train as its faults' tests start it: here or as a process of its own, and what MLflow has of it."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
import torch
from safetensors.torch import load_file

from audiocnn.config import TrainSettings
from audiocnn.data.spectrogram_set import SpectrogramSet
from audiocnn.training.loop import Epoch, fingerprint
from components.train import step
from components.train.step import ParentRun
from helpers.project import ROOT, read_json
from mlops.checkpoint_store import CheckpointStore
from mlops.provenance import training_code_version
from mlops.tracking import live as tracking_live
from pipeline.settings import PipelineSettings

ARGUMENTS = ["recipe=demo", "device=cpu", "fold=2", "epochs=4", "batch_size=16", "checkpoint_minutes=0"]
ARGUMENTS += ["architecture.width=0.0625", "augment.mix=power"]


class Killed(BaseException):
    """In place of a SIGKILL in this process: nothing that handles errors handles it."""


def start_training(spectrograms: Path, folder: Path, *options: str) -> subprocess.Popen[str]:
    """A training of four epochs as a process, with a checkpoint after every step, below `folder`."""
    given = ["--spectrograms", str(spectrograms), "--output", str(folder / "model")]
    given += ["--checkpoints", str(folder / "checkpoints"), *options]
    given += [part for argument in ARGUMENTS for part in ("--set", f"train.{argument}")]
    return subprocess.Popen(
        [sys.executable, "-m", "components.train", *given],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for_checkpoint(process: subprocess.Popen[str], folder: Path) -> None:
    """Until the process that `start_training` started has left something to resume from."""
    while not list((folder / "checkpoints").glob("*.pt")):
        assert process.poll() is None
        time.sleep(0.005)


@pytest.fixture
def settings(tiny: PipelineSettings) -> TrainSettings:
    """A training of three epochs, with a checkpoint after every step."""
    return tiny.train.replace(epochs=3, checkpoint_minutes=0.0)


Train = Callable[..., Path]


@pytest.fixture
def train(spectrogram_folder: Path, settings: TrainSettings, tmp_path: Path) -> Train:
    """Train in this process; the model's folder."""

    def run(
        own: TrainSettings | None = None, checkpoints: str = "", member: ParentRun | None = None, output: str = "model"
    ) -> Path:
        place = checkpoints or str(tmp_path / "checkpoints")
        step.train(spectrogram_folder, own or settings, tmp_path / output, place, member)
        return tmp_path / output

    return run


@pytest.fixture
def checkpoint(spectrogram_folder: Path, settings: TrainSettings) -> str:
    """What the checkpoint of that training is called."""
    return fingerprint(settings, SpectrogramSet.open(spectrogram_folder).spec, training_code_version())


def kept_until(epoch: int, patch: pytest.MonkeyPatch) -> None:
    """No checkpoint is written in this epoch or later; 1 keeps none."""
    write, reached = CheckpointStore.write, [1]
    said = step._said

    def count(told: Epoch, settings: TrainSettings) -> None:
        reached[0] = told.epoch + 1
        said(told, settings)

    def writes(self: CheckpointStore, content: bytes) -> None:
        if reached[0] < epoch:
            write(self, content)

    patch.setattr(step, "_said", count)
    patch.setattr(CheckpointStore, "write", writes)


def killed_after(epoch: int, patch: pytest.MonkeyPatch) -> None:
    """The training ends after this epoch was told, and before it is in a checkpoint."""
    said = step._said

    def kills(told: Epoch, settings: TrainSettings) -> None:
        said(told, settings)
        if told.epoch == epoch:
            raise Killed

    patch.setattr(step, "_said", kills)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """An MLflow that is away is asked again soon."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(tracking_live, "RETRY_SECONDS", 0.2)


def run_of(model: Path, server: str | None = None) -> mlflow.entities.Run:
    """The MLflow run of a model's folder."""
    return mlflow.MlflowClient(server).get_run(read_json(model / "run.json")["run_id"])


def epochs_of(model: Path, server: str | None = None) -> list[int]:
    """The epochs that MLflow shows of a model's training, each as often as it was recorded."""
    run = run_of(model, server).info.run_id
    return sorted(point.step for point in mlflow.MlflowClient(server).get_metric_history(run, "train_loss"))


def weights(model: Path) -> dict[str, torch.Tensor]:
    """What the model learnt."""
    return load_file(model / "model.safetensors")


def same_weights(one: Path, other: Path) -> bool:
    """Whether two models are alike, bit for bit."""
    expected, found = weights(one), weights(other)
    return expected.keys() == found.keys() and all(torch.equal(expected[name], found[name]) for name in expected)
