"""Several nodes to train on: a Kubernetes API on loopback that really runs what a TrainJob asks for."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from components.train import nodes
from components.train.settings import TrainJobSettings
from components.train.trainer import Trainer
from helpers import kubernetes as support_kubernetes
from helpers.kubernetes import Cluster
from pipeline.settings import PipelineSettings

TWO = TrainJobSettings(nodes=2, gpus_per_node=0)
DIGEST = "0" * 64
Start = Callable[..., Path]


def option(command: list[str], name: str) -> str:
    return command[command.index(name) + 1]


def shell(script: str) -> Callable[[list[str]], list[str]]:
    """In place of a TrainJob's command; $1 is the folder that the model goes to."""
    return lambda command: ["sh", "-c", script, "sh", option(command, "--output")]


def copying(model: Path) -> str:
    """A script that leaves a model without training it, as ever on the first node."""
    return f'[ "$PET_NODE_RANK" != 0 ] || cp -rT {model} "$1"'


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A cluster whose nodes share this process's working folder, as on a real one they share its var/."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(nodes, "POLL_SECONDS", 0.1)
    with support_kubernetes.serve(tmp_path) as cluster:
        cluster.secrets["audiocnn-mlflow"] = {"tracking-uri": os.environ["MLFLOW_TRACKING_URI"]}
        yield cluster


@pytest.fixture
def copied(cluster: Cluster, model_folder: Path) -> Cluster:
    """Nodes that take a moment, and copy a model instead of training one."""
    cluster.stand_in = shell(f"echo copying; sleep 0.5; {copying(model_folder)}")
    return cluster


@pytest.fixture
def start(cluster: Cluster, spectrogram_folder: Path, tiny: PipelineSettings, tmp_path: Path) -> Start:
    """Train on two nodes; the model's folder."""

    def run(asked: TrainJobSettings = TWO, checkpoints: str = "var/checkpoints") -> Path:
        output = tmp_path / "model"
        nodes.train(spectrogram_folder, tiny.train, asked, output, checkpoints, DIGEST, Trainer(cluster.config))
        return output

    return run
