"""Trainings in this process or in another one, interruptions, and what MLflow recorded."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
import torch
from safetensors.torch import load_file

from audiocnn.config import TrainSettings
from audiocnn.data.spectrogram_set import SpectrogramSet
from audiocnn.training.checkpoint import fingerprint
from audiocnn.training.state import Epoch
from components.train import metrics, step
from helpers.project import ROOT
from mlops.artifacts import ModelFolder, TrainingRequest
from mlops.checkpoint_store import CheckpointStore
from mlops.provenance import training_code_version
from pipeline.settings import PipelineSettings

OVERRIDES = ["recipe=demo", "train.device=cpu", "train.fold=2", "train.epochs=4", "train.batch_size=16"]
OVERRIDES += ["train.checkpoint_minutes=0", "train.architecture.width=0.0625", "train.augment.mix=power"]


class Killed(BaseException):
    """Replaces SIGKILL within this process: no error handler catches it."""


# The step train in a process that stops itself once, at the first checkpoint or after it has printed a text: on a busy
# machine, a test that reacted to what it sees could be too late.
STOPPING = """
import builtins, os, runpy, signal, sys
from mlops.checkpoint_store import CheckpointStore

moment, show, write = sys.argv.pop(1), builtins.print, CheckpointStore.write

def stop(text):
    global moment
    if moment and moment in text:
        moment = ""
        os.kill(os.getpid(), signal.SIGSTOP)

def show_and_stop(*values, **options):
    show(*values, **options)
    stop(str(values))

def write_and_stop(store, content):
    write(store, content)
    stop("first checkpoint")

builtins.print, CheckpointStore.write = show_and_stop, write_and_stop
runpy.run_module("components.train", run_name="__main__", alter_sys=True)
"""


def start_training(spectrograms: Path, folder: Path, *options: str, stop_at: str = "") -> subprocess.Popen[str]:
    """Start a process that trains for four epochs, with a checkpoint after every step, below `folder`.

    Args:
        stop_at: "first checkpoint", or a part of a line, at which the process stops.
    """
    arguments = ["--spectrograms", str(spectrograms), "--output", str(folder / "model")]
    arguments += ["--checkpoints", str(folder / "checkpoints"), *options]
    arguments += [part for override in OVERRIDES for part in ("--set", override)]
    program = ["-c", STOPPING, stop_at] if stop_at else ["-m", "components.train"]
    process = subprocess.Popen(
        [sys.executable, *program, *arguments],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if stop_at:
        change = os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        assert change is not None and change.si_code == os.CLD_STOPPED, process.communicate()[0]
    return process


@pytest.fixture
def settings(tiny: PipelineSettings) -> TrainSettings:
    """Three epochs, with a checkpoint after every step."""
    return tiny.train.replace(epochs=3, checkpoint_minutes=0.0)


Train = Callable[..., Path]


@pytest.fixture
def train(spectrogram_folder: Path, settings: TrainSettings, tmp_path: Path) -> Train:
    """Return a function that trains in this process and returns the model folder."""

    def run(
        changed: TrainSettings | None = None,
        checkpoints: str = "",
        output: str = "model",
        on_epoch: Callable[[Epoch], None] | None = None,
    ) -> Path:
        request = TrainingRequest(recipe="demo", settings=changed or settings)
        checkpoints = checkpoints or str(tmp_path / "checkpoints")
        step.train(spectrogram_folder, request, tmp_path / output, checkpoints, on_epoch)
        return tmp_path / output

    return run


@pytest.fixture
def checkpoint(spectrogram_folder: Path, settings: TrainSettings) -> str:
    """Name of the checkpoint of the fixture `train`."""
    return fingerprint(settings, SpectrogramSet.open(spectrogram_folder).spec, training_code_version())


def kill_after(epoch: int) -> Callable[[Epoch], None]:
    """Return a callback that kills the training after an epoch was logged and before its checkpoint is written."""

    def on_epoch(completed: Epoch) -> None:
        if completed.epoch == epoch:
            raise Killed

    return on_epoch


def drop_checkpoints(count: int, patch: pytest.MonkeyPatch) -> None:
    """Write the first `count` checkpoints only."""
    write, written = CheckpointStore.write, []

    def write_some(self: CheckpointStore, content: bytes) -> None:
        if len(written) < count:
            written.append(content)
            write(self, content)

    patch.setattr(CheckpointStore, "write", write_some)


@pytest.fixture
def short_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten all waiting times for MLflow."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(metrics, "RETRY_SECONDS", 0.2)
    monkeypatch.setattr(metrics, "INTERVAL_SECONDS", 0.0)


def run_of(model: Path, server: str | None = None) -> mlflow.entities.Run:
    """Return the MLflow run of a model folder."""
    return mlflow.MlflowClient(server).get_run(ModelFolder(model).run().run_id)


def epochs_of(model: Path, server: str | None = None) -> list[int]:
    """Return the epochs that MLflow has of a model folder's training, duplicates included."""
    run = run_of(model, server).info.run_id
    return sorted(point.step for point in mlflow.MlflowClient(server).get_metric_history(run, "train_loss"))


def same_weights(first: Path, second: Path) -> bool:
    """Return whether the weights of two model folders are bit-identical."""
    expected, found = (load_file(folder / "model.safetensors") for folder in (first, second))
    return expected.keys() == found.keys() and all(torch.equal(expected[name], found[name]) for name in expected)
