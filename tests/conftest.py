"""Fixtures for all tests: a small data set and what every step makes of it."""

import os
import signal
from collections.abc import Generator
from pathlib import Path

import hypothesis
import pytest
import torch
from helpers.mlflow import mlflow_server
from helpers.mlflow_plugin import kubeflow_task, mlflow_plugin
from helpers.project import REAL_CLIPS, ROOT
from helpers.s3 import s3, s3_server
from helpers.torchserve import free_ports

from audiocnn.synthetic.dataset import write_demo
from mlops.kubeflow_run import MLFLOW_EXPERIMENT_ID, MLFLOW_RUN_ID, RUN_ID, RUN_URL
from mlops.provenance import REVISION
from pipeline import settings as pipeline_settings
from pipeline.settings import PipelineSettings

DATA_VARIABLES = ("AUDIOCNN_ESC50", "AUDIOCNN_SCHEMAS", "AUDIOCNN_KUBECTL", "AUDIOCNN_PODMAN_UP")

# No time limit for an example: on a busy machine, one that takes milliseconds can take a second.
hypothesis.settings.register_profile("audiocnn", deadline=None)
hypothesis.settings.load_profile("audiocnn")

__all__ = ["kubeflow_task", "mlflow_plugin", "mlflow_server", "s3", "s3_server"]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip for want of data into a failure if the variable that names the data is set."""
    report = yield
    if report.skipped and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2]
        if given := [name for name in DATA_VARIABLES if name in reason and os.environ.get(name)]:
            report.outcome, report.longrepr = "failed", f"{given[0]} is set, but the test was skipped: {reason}"
    return report


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    # Two pytest workers share the cores.
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _default_signal_handlers() -> None:
    """Restore the handlers: processes in the background ignore signals, and so do their children."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session", autouse=True)
def _own_mlflow(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Record the runs of all tests in a database in a temporary directory of the pytest worker."""
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"
    os.environ["GIT_TERMINAL_PROMPT"] = "0"
    os.environ[REVISION] = "0" * 40  # not that of a checkout with changes, which runs would keep as an artifact


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the Kubeflow run and the user of MLflow that an earlier test, or a library in it, set for its process."""
    login = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
    for variable in (RUN_ID, RUN_URL, MLFLOW_RUN_ID, MLFLOW_EXPERIMENT_ID, *login):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture(scope="session")
def tiny() -> PipelineSettings:
    """params.yaml with a small network that is trained in seconds."""
    train = {
        "architecture": {"width": 0.0625},
        "epochs": 2,
        "test_every": 1,
        "batch_size": 16,
        "device": "cpu",
        "fold": 2,
    }
    gateway = {"port": free_ports(1)[0]}
    blocks = {"recipe": "demo", "train": train, "evaluate": {"device": "cpu"}, "gateway": gateway}
    return pipeline_settings.load(ROOT / "params.yaml", blocks)


@pytest.fixture(scope="session")
def real_clips() -> Path:
    """Real clips in ESC-50's layout; without them the test is skipped."""
    if not (REAL_CLIPS / "meta" / "esc50.csv").is_file():
        pytest.skip(f"no ESC-50 clips at {REAL_CLIPS}: set AUDIOCNN_ESC50 to a folder with meta/esc50.csv and audio/")
    return REAL_CLIPS


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """50 synthetic clips in ESC-50's layout, one for each class and fold."""
    return write_demo(tmp_path_factory.mktemp("demo") / "demo", clips_per_class_and_fold=1)


@pytest.fixture(scope="session")
def dataset(demo_folder: Path, tiny: PipelineSettings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Output of the step ingest."""
    from components.ingest.step import ingest

    output = tmp_path_factory.mktemp("dataset") / "dataset"
    ingest(str(demo_folder), tiny.ingest, tiny.spectrograms, output)
    return output


@pytest.fixture(scope="session")
def spectrogram_folder(dataset: Path, tiny: PipelineSettings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Output of the step spectrograms."""
    from components.spectrograms.step import spectrograms

    folder = tmp_path_factory.mktemp("spectrograms")
    spectrograms(dataset, tiny.spectrograms, folder / "spectrograms", str(folder / "cache"))
    return folder / "spectrograms"


@pytest.fixture(scope="session")
def model_folder(spectrogram_folder: Path, tiny: PipelineSettings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Output of the step train: a small classifier and its MLflow run."""
    from components.train.step import train
    from mlops.artifacts import TrainingRequest

    folder = tmp_path_factory.mktemp("model")
    request = TrainingRequest(recipe="demo", settings=tiny.train)
    train(spectrogram_folder, request, folder / "model", str(folder / "checkpoints"))
    return folder / "model"


@pytest.fixture(scope="session")
def evaluation_folder(
    model_folder: Path,
    spectrogram_folder: Path,
    dataset: Path,
    tiny: PipelineSettings,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Output of the step evaluate."""
    from components.evaluate.step import evaluate

    output = tmp_path_factory.mktemp("evaluation") / "evaluation"
    evaluate(model_folder, spectrogram_folder, dataset, tiny.evaluate, output)
    return output
