"""The compiled pipelines that Kubeflow reads."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.project import ROOT

from pipeline import compile as compiling
from pipeline import settings as pipeline_settings
from pipeline.compile import CROSSVAL, TRAINING
from pipeline.settings import PipelineSettings
from pipeline.steps import CROSSVAL_STEPS, OUTPUTS, TITLES, TRAINING_STEPS


def read(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = next(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    return document


def defaults(path: Path) -> dict[str, Any]:
    parameters = read(path)["root"]["inputDefinitions"]["parameters"]
    return {name: parameter.get("defaultValue") for name, parameter in parameters.items()}


def test_committed_files_are_up_to_date() -> None:
    assert compiling.outdated() == [], "run `make compile` and commit"


def test_outdated_missing_and_foreign_files_are_named(tmp_path: Path) -> None:
    shutil.copytree(compiling.COMPILED, tmp_path, dirs_exist_ok=True)
    (tmp_path / "old.yaml").write_text("left behind")
    training = tmp_path / "training.yaml"
    training.write_text(training.read_text().replace("audiocnn-pipeline:", "other:"))
    assert compiling.outdated(tmp_path) == ["old.yaml", "training.yaml"]
    training.unlink()
    assert compiling.outdated(tmp_path) == ["old.yaml", "training.yaml"]


def test_defaults_of_the_training_are_those_of_params_yaml() -> None:
    settings = pipeline_settings.load(ROOT / "params.yaml").to_dict()
    found = defaults(TRAINING)
    assert {name: found[name] for name in settings} == settings


def test_defaults_of_the_cross_validation_train_on_every_fold_once() -> None:
    settings = pipeline_settings.load(ROOT / "params.yaml")
    found = defaults(CROSSVAL)
    assert found["train"] == settings.train.to_dict()
    assert (found["folds"], found["seeds"]) == ([], [settings.train.seed])


@pytest.mark.parametrize(("path", "steps"), [(TRAINING, TRAINING_STEPS), (CROSSVAL, CROSSVAL_STEPS)])
def test_graphs_have_the_steps_of_the_local_runner(path: Path, steps: tuple[str, ...]) -> None:
    executors = read(path)["deploymentSpec"]["executors"]
    names = {name.removeprefix("exec-").replace("-", "_") for name in executors}
    assert names == {*steps, "spectrogram_shard"}


@pytest.mark.parametrize("path", [TRAINING, CROSSVAL])
def test_titles_and_outputs_are_those_of_the_local_runner(path: Path) -> None:
    document = read(path)
    components = document["components"]
    dags = [document["root"]["dag"], *(part["dag"] for part in components.values() if "dag" in part)]
    for dag in dags:
        for name, task in dag["tasks"].items():
            if (step := name.replace("-", "_")) not in OUTPUTS:
                continue
            assert task["taskInfo"]["name"] == TITLES[step]
            if step != "plan_trials":  # returns a list
                assert OUTPUTS[step] in components[f"comp-{name}"]["outputDefinitions"]["artifacts"]


def test_only_deploy_is_conditional(tiny: PipelineSettings) -> None:
    document = read(TRAINING)
    tasks = document["root"]["dag"]["tasks"]
    (condition,) = [task["triggerPolicy"]["condition"] for task in tasks.values() if "triggerPolicy" in task]
    # KFP's local runner skips a condition on a named output without a message.
    assert condition == "inputs.parameter_values['pipelinechannel--promote-Output'] == 'promote'"
    assert set(document["components"]["comp-condition-2"]["dag"]["tasks"]) == {"deploy"}
