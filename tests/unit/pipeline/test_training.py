"""The training pipeline on this machine, from clips to a real TorchServe, and stopped by its gate."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from helpers.networks import replace_settings
from helpers.torchserve import deploy_settings
from rich.console import Console

from mlops import tracking
from mlops.artifacts import DatasetFolder
from pipeline.cli import classify, servers, status
from pipeline.cli.options import EndpointOptions
from pipeline.cli.summary import show_training
from pipeline.local import Run, run_training
from pipeline.recordings import open_classifier
from pipeline.settings import PipelineSettings
from pipeline.steps import TRAINING_STEPS
from serving.supervision.endpoint import stop
from serving.torchserve import server as torchserve
from serving.torchserve.client import TorchServeClient, from_served_version

NAME = "local-training"
ADDRESSES = ("inference", "management", "metrics")
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("torchserve")]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("training")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


@pytest.fixture(scope="module")
def settings(tiny: PipelineSettings, place: Path) -> Iterator[PipelineSettings]:
    """Return settings for a training of seconds without a floor for its model, and a TorchServe of its own."""
    deploy = deploy_settings(place / "torchserve")
    register = tiny.register.replace(name=NAME)
    promote = tiny.promote.replace(min_accuracy=0.0, min_class_recall=0.0, max_latency_ms=1e6)
    train = replace_settings(tiny.train, width=0.125)
    yield tiny.replace(train=train, register=register, promote=promote, deploy=deploy)
    stop(Path(deploy.state))


@pytest.fixture(scope="module")
def deployed(demo_folder: Path, settings: PipelineSettings) -> Run:
    return run_training(settings, str(demo_folder))


def shown(run: Run, settings: PipelineSettings) -> str:
    options = EndpointOptions(assignments=[f"deploy.{key}={getattr(settings.deploy, key)}" for key in ADDRESSES])
    out = io.StringIO()
    show_training(run, settings, options, Console(file=out, width=80))
    return out.getvalue()


def test_a_run_ends_with_an_endpoint(deployed: Run, settings: PipelineSettings) -> None:
    assert tuple(deployed.executed) == TRAINING_STEPS
    version = tracking.version_by_alias(NAME, "champion")
    assert version is not None and version.number == 1
    text = shown(deployed, settings)
    assert "$ curl -sSg -T" in text
    answer = json.loads(text[text.index("{") : text.rindex("}") + 1])
    assert answer["model"]["name"] == NAME and len(answer["predictions"]) == 5
    assert f"Page                       http://127.0.0.1:{settings.gateway.port}/\n" in text and "make down" in text
    (classify,) = [line for line in text.splitlines() if line.startswith("Classify a clip")]
    assert f"--set deploy.inference={settings.deploy.inference} FILE" in classify, "without the other addresses"
    key = torchserve.inference_key(Path(settings.deploy.state))
    assert key not in text and key not in deployed.log.read_text()


def test_every_output_has_its_report(deployed: Run) -> None:
    for step in ("ingest", "evaluate"):
        assert "<html" in (deployed.output(step) / "report.html").read_text(encoding="utf-8").lower()
    assert (deployed.output("train") / "curves" / "loss.png").is_file()


def test_a_refused_model_is_not_deployed(deployed: Run, demo_folder: Path, settings: PipelineSettings) -> None:
    strict = settings.replace(promote=settings.promote.replace(min_accuracy=1.0))
    refused = run_training(strict, str(demo_folder))
    assert tuple(refused.executed) == TRAINING_STEPS[:-1]
    text = shown(refused, strict)
    assert (
        f"Not deployed. {NAME} version 2: refused\n" in text
        and "\n  accuracy is " in text
        and "min_accuracy" not in text
    )
    assert f"--set deploy.metrics={settings.deploy.metrics} 2 --because" in text
    version = tracking.version_by_alias(NAME, "champion")
    assert version is not None and version.number == 1
    served = TorchServeClient.from_settings(settings.deploy).default_version(NAME)
    assert served is not None and from_served_version(served) == 1
    assert "computed" not in refused.log.read_text(), "every spectrogram is in the cache"
    pd.testing.assert_frame_equal(*(DatasetFolder(run.output("ingest")).clips() for run in (deployed, refused)))


def test_status_classify_and_down(deployed: Run, settings: PipelineSettings) -> None:
    text = status.render(status.collect(settings))
    assert "version 1: promoted" in text and "Healthy, serves version 1" in text
    soundfile.write("silent.wav", np.zeros(44100), 44100)
    clip = next((deployed.output("ingest") / "audio").iterdir())
    with open_classifier(settings, local=False) as classifier:
        answers = classify.classify_files(classifier, [Path("gone.wav"), Path("silent.wav"), clip], 1, False)
    assert [answer.get("reason") for answer in answers] == ["unreadable", "silent", None]
    assert answers[2]["model"]["version"] == 1  # the others do not prevent its request
    assert servers.stop_servers(settings.deploy) == ["the gateway", "TorchServe"]
    assert servers.stop_servers(settings.deploy) == []
    assert torchserve.find(Path(settings.deploy.state)) is None
