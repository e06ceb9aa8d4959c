"""The committed pipeline itself, run by kfp.local from clips to a real TorchServe, and stopped by its gate."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import yaml
from helpers.networks import replace_settings
from helpers.project import read_json
from helpers.torchserve import deploy_settings
from rich.console import Console

from mlops import tracking
from pipeline import training
from pipeline.cli import demo, endpoint, servers
from pipeline.cli import registry as champion
from pipeline.run import TRAINING, Run, run_local
from pipeline.settings import PipelineSettings
from serving.torchserve import server as process
from serving.torchserve.client import ServingError, TorchServe

STEPS = ("ingest", "spectrogram-shard", "spectrograms", "train", "evaluate", "register", "promote", "deploy")
NAME = "road"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("road")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


@pytest.fixture(scope="module")
def settings(tiny: PipelineSettings, place: Path) -> Iterator[PipelineSettings]:
    """A training of seconds whose model may be as bad as it likes, and a TorchServe of its own."""
    deploy = deploy_settings(place / "torchserve")
    register = tiny.register.replace(name=NAME)
    promote = tiny.promote.replace(min_accuracy=0.0, min_class_recall=0.0, max_latency_ms=1e6)
    train = replace_settings(tiny.train, width=0.125)
    yield tiny.replace(train=train, register=register, promote=promote, deploy=deploy)
    process.stop(Path(deploy.state))


@pytest.fixture(scope="module")
def road(demo_folder: Path, settings: PipelineSettings) -> Run:
    """The committed file, run with every gate open and the spectrograms in two shares side by side."""
    return run_local(demo.run_arguments(settings, str(demo_folder), shards=2), TRAINING, Console(file=io.StringIO()))


def concluded(run: Run, settings: PipelineSettings) -> str:
    out = io.StringIO()
    demo.conclude(run, settings, Console(file=out, width=300))
    return out.getvalue()


def computed(run: Run) -> dict[str, list[int]]:
    """Task -> how many spectrograms each of its executions computed."""
    found: dict[str, list[int]] = {}
    for file in sorted(run.folder.rglob("spectrogram*/executor_output.json")):
        (statistics,) = read_json(file)["artifacts"]["statistics"]["artifacts"]
        found.setdefault(file.parent.name, []).append(statistics["metadata"]["computed"])
    return found


def test_the_defaults_are_those_of_params_yaml(tiny: PipelineSettings) -> None:
    given = next(yaml.safe_load_all(TRAINING.read_text(encoding="utf-8")))["root"]["inputDefinitions"]["parameters"]
    assert given["train"]["defaultValue"]["epochs"] == 100 and given["train"]["defaultValue"]["recipe"] == "seed"
    assert given["spectrograms"]["defaultValue"] == training.arguments(tiny)["spectrograms"]
    assert given["promote"]["defaultValue"] == training.arguments(tiny)["promote"]


@pytest.mark.slow
@pytest.mark.xdist_group("torchserve")
def test_the_road_runs_every_task_and_ends_with_an_endpoint(road: Run, settings: PipelineSettings, place: Path) -> None:
    assert (road.ran, road.skipped) == (STEPS, ())
    version = tracking.version_by_alias(NAME, "champion")
    assert version is not None and version.number == 1
    shown = concluded(road, settings)
    assert "$ curl -sS -H" in shown and "serves" not in shown
    answer = json.loads(shown[shown.index("{") : shown.rindex("}") + 1])
    assert answer["model"]["name"] == NAME and len(answer["predictions"]) == 5
    assert TorchServe.of(settings.deploy).url(NAME) in shown and "make down" in shown
    key = process.inference_key(Path(settings.deploy.state))
    assert key not in shown and key not in road.log.read_text()


@pytest.mark.slow
@pytest.mark.xdist_group("torchserve")
def test_the_page_gets_its_pictures_and_figures(road: Run) -> None:
    for task, name in (("ingest", "report"), ("train", "curves"), ("evaluate", "report")):
        assert "<html" in road.output(task, name).read_text(encoding="utf-8").lower()
    steps = ("ingest", "train", "evaluate")
    outputs = {task: read_json(road.folder / task / "executor_output.json")["artifacts"] for task in steps}
    metrics = outputs["evaluate"]["metrics"]["artifacts"][0]["metadata"]
    evaluation = read_json(road.output("evaluate", "evaluation") / "metrics.json")
    assert metrics["accuracy"] == pytest.approx(evaluation["accuracy"])
    matrix = outputs["evaluate"]["confusion"]["artifacts"][0]["metadata"]["confusionMatrix"]
    assert sum(sum(row["row"]) for row in matrix["rows"]) == 10  # clips of the test fold
    assert outputs["ingest"]["dataset"]["artifacts"][0]["metadata"]["clips"] == 50


@pytest.mark.slow
@pytest.mark.xdist_group("torchserve")
def test_a_refused_model_is_not_deployed_and_the_run_says_why(
    road: Run, demo_folder: Path, settings: PipelineSettings, place: Path
) -> None:
    strict = settings.replace(promote=settings.promote.replace(min_accuracy=1.0))
    refused = run_local(demo.run_arguments(strict, str(demo_folder)), TRAINING, Console(file=io.StringIO()))
    assert (refused.ran, refused.skipped) == (STEPS[:-1], ("deploy",))
    shown = concluded(refused, strict)
    assert "Not deployed" in shown and "accuracy" in shown and "is refused; the champion stays" in shown
    assert 'approve 2 --because "..."' in shown
    version = tracking.version_by_alias(NAME, "champion")
    assert version is not None and version.number == 1
    assert TorchServe.of(settings.deploy).default(NAME) == "1.0"
    # Nothing was computed twice: the second run took every spectrogram from the cache.
    assert computed(road) == {"spectrogram-shard": [25, 25], "spectrograms": [0]}
    assert computed(refused) == {"spectrogram-shard": [0], "spectrograms": [0]}
    pd.testing.assert_frame_equal(
        *(pd.read_csv(run.output("ingest", "dataset") / "clips.csv") for run in (road, refused))
    )


@pytest.mark.slow
@pytest.mark.xdist_group("torchserve")
def test_people_see_what_is_served_and_stop_it(road: Run, settings: PipelineSettings) -> None:
    out = io.StringIO()
    Console(file=out, width=300).print(champion.overview(settings))
    assert "version 1: promote" in out.getvalue() and "Healthy, serves 1.0" in out.getvalue()
    soundfile.write("silent.wav", np.zeros(44100), 44100)
    with pytest.raises(ServingError, match=r"silent\.wav: .*the clip is silent"):
        endpoint.ask(Path("silent.wav"), settings)
    clip = next((road.output("ingest", "dataset") / "audio").iterdir())
    answers = endpoint.ask_all([Path("gone.wav"), Path("silent.wav"), clip], settings)
    assert next(answers).title == str(clip)  # the others do not keep it from being asked for
    with pytest.raises(endpoint.EndpointError, match=r"gone\.wav: No such.*\nsilent\.wav: .*the clip is silent"):
        next(answers)
    assert servers.stop(settings.deploy) == ["TorchServe"]
    assert servers.stop(settings.deploy) == []
    assert not TorchServe.of(settings.deploy).answers()
