"""Trainings on several nodes of the cluster in helpers.kubernetes."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tenacity import wait_fixed

from components.train import nodes
from components.train.settings import ResourceSettings
from components.train.trainjob_client import TrainJobClient
from helpers.kubernetes import Cluster, serve
from mlops.artifacts import TrainingRequest
from pipeline.settings import PipelineSettings

TWO = ResourceSettings(nodes=2, gpus_per_node=0)
Start = Callable[..., Path]


def shell(script: str) -> Callable[[list[str]], list[str]]:
    """Replace a TrainJob's command by a script; its argument $1 is the model folder to write."""
    return lambda command: ["sh", "-c", script, "sh", command[command.index("--output") + 1]]


def copy_script(model: Path) -> str:
    """Return a script that copies a model on the main node instead of training one."""
    return f'[ "$PET_NODE_RANK" != 0 ] || cp -rT {model} "$1"'


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A cluster whose nodes share this process's working directory, as real nodes share its var/."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(nodes, "POLL_SECONDS", 0.1)
    monkeypatch.setattr(TrainJobClient.get.retry, "wait", wait_fixed(0.1))
    with serve(tmp_path) as cluster:
        cluster.secrets["audiocnn-mlflow"] = {"tracking-uri": os.environ["MLFLOW_TRACKING_URI"]}
        yield cluster


@pytest.fixture
def copying_cluster(cluster: Cluster, model_folder: Path) -> Cluster:
    """A cluster whose nodes copy a model, after a moment, instead of training one."""
    cluster.replace_command = shell(f"echo copying; sleep 0.5; {copy_script(model_folder)}")
    return cluster


@pytest.fixture
def start(cluster: Cluster, spectrogram_folder: Path, tiny: PipelineSettings, tmp_path: Path) -> Start:
    """Return a function that trains on two nodes and returns the model folder."""

    def run(settings: ResourceSettings = TWO, checkpoints: str = "var/checkpoints") -> Path:
        output, request = tmp_path / "model", TrainingRequest(recipe="demo", settings=tiny.train)
        nodes.train(spectrogram_folder, request, settings, output, checkpoints, TrainJobClient(cluster.config))
        return output

    return run
