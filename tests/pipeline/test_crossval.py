"""The committed pipeline of many trainings, run by kfp.local: a cross-validation, a sweep, and a fold that fails."""

import dataclasses
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml
from rich.console import Console
from support import ROOT, read_json, vary

from audiocnn import params
from audiocnn.params import Params
from components.plan.step import PlanError
from pipeline import crossval, folds, graph
from pipeline.run import Run, RunError, run_local

STEPS = ("ingest", "spectrogram-shard", "spectrograms", "plan", "train", "evaluate", "pool")
# A test pays for the run that it is the first to ask for: five processes a training, on cores that others use.
pytestmark = [pytest.mark.xdist_group("crossval"), pytest.mark.timeout(600)]


@pytest.fixture(scope="module", autouse=True)
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One working folder: the later runs find the spectrograms of the first."""
    folder = tmp_path_factory.mktemp("many")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


def run(arguments: dict[str, Any]) -> Run:
    return run_local(arguments, folds.CROSSVAL, Console(file=io.StringIO()))


@pytest.fixture(scope="module")
def validated(demo_folder: Path, tiny: Params) -> Run:
    """The committed file on two of the five folds, one seed."""
    return run(folds.crossval_arguments(tiny, str(demo_folder), "2,4", 1, 1))


@pytest.fixture(scope="module")
def swept(demo_folder: Path, tiny: Params, place: Path) -> Run:
    """The committed file on a grid of two values, compared on one fold."""
    train = params.as_dict(tiny.train)
    settings = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    (place / "recipes").mkdir()
    (place / "recipes" / "demo.yaml").write_text((ROOT / "recipes" / "demo.yaml").read_text(encoding="utf-8"))
    (place / "params.yaml").write_text(yaml.safe_dump({**settings, "train": {**train, "fold": 5}}))
    grid = ["train.max_lr=0.001,0.004"]
    given = folds.sweep_arguments(place / "params.yaml", [], str(demo_folder), grid, "3", 1, 1)
    return run(given)


def children(parent: str) -> list[mlflow.entities.Run]:
    return mlflow.search_runs(
        filter_string=f"tags.mlflow.parentRunId = '{parent}'", search_all_experiments=True, output_format="list"
    )


def parent_of(run: Run) -> str:
    (parent,) = {
        each["parent"] for each in read_json(run.output("plan", "executor_output.json"))["parameterValues"]["Output"]
    }
    return str(parent)


def test_the_defaults_are_those_of_params_yaml_and_train_on_every_fold_once() -> None:
    given = next(yaml.safe_load_all(folds.CROSSVAL.read_text(encoding="utf-8")))["root"]["inputDefinitions"][
        "parameters"
    ]
    defaults = {name: parameter["defaultValue"] for name, parameter in given.items()}
    settings = params.load(ROOT / "params.yaml")
    assert defaults["train"] == params.as_dict(settings.train)
    assert (defaults["folds"], defaults["seeds"]) == ([], [settings.train.seed])
    assert set(crossval.arguments(settings, "demo", [], [0])) <= set(defaults)


def test_nothing_is_registered_promoted_or_deployed() -> None:
    assert tuple(task.name for task in graph.read(folds.CROSSVAL).tasks) == STEPS
    looped = [task.name for task in graph.read(folds.CROSSVAL).tasks if task.repeated]
    assert looped == ["spectrogram-shard", "train", "evaluate"]


@pytest.mark.slow
def test_every_fold_is_trained_and_scored_and_one_report_pools_them(validated: Run) -> None:
    assert (validated.ran, validated.skipped) == (STEPS, ())
    scored = sorted(validated.folder.glob("for-loop-*/evaluate/evaluation/predictions.csv"))
    tables = [pd.read_csv(path) for path in scored]
    assert sorted({*table["fold"]} for table in tables) == [{2}, {4}]
    pooled = validated.output("pool", "pooled")
    metrics = read_json(pooled / "metrics.json")
    together = pd.concat(tables)
    assert metrics["clips"] == len(together) == 20
    assert metrics["accuracy"] == pytest.approx(np.mean(together["predicted"] == together["category"]))
    assert metrics["accuracy_low"] < metrics["accuracy"] < metrics["accuracy_high"]
    assert validated.output("pool", "report").read_bytes() == (pooled / "report.html").read_bytes()


@pytest.mark.slow
def test_mlflow_shows_a_child_a_fold_under_one_parent(validated: Run) -> None:
    parent = mlflow.MlflowClient().get_run(parent_of(validated))
    found = children(parent.info.run_id)
    assert sorted(run.data.params["train.fold"] for run in found) == ["2", "4"]
    assert {run.info.status for run in (parent, *found)} == {"FINISHED"}
    assert all("test.accuracy" in run.data.metrics for run in found)
    mean = np.mean([run.data.metrics["test.accuracy"] for run in found])
    assert parent.data.metrics["pooled.accuracy"] == pytest.approx(mean)
    rows = pd.read_csv(validated.output("pool", "pooled") / "trainings.csv")
    assert set(rows["run_id"]) == {run.info.run_id for run in found}


@pytest.mark.slow
def test_people_see_every_fold_and_where_to_read_on(validated: Run) -> None:
    out = io.StringIO()
    folds.conclude(validated, Console(file=out, width=200))
    shown = out.getvalue()
    assert all(word in shown for word in ("fold 2", "fold 4", "all", "report.html", "make mlflow"))


@pytest.mark.slow
def test_a_sweep_ranks_its_trials_on_a_fold_other_than_the_test_fold(swept: Run) -> None:
    assert (swept.ran, swept.skipped) == (STEPS, ())
    table = pd.read_csv(swept.output("pool", "pooled") / "trials.csv")
    assert set(table["trial"]) == {"max_lr=0.001", "max_lr=0.004"}
    assert table["accuracy"].is_monotonic_decreasing
    predictions = pd.read_csv(swept.output("pool", "pooled") / "predictions.csv")
    assert set(predictions["fold"]) == {3} and len(predictions) == 20
    runs = children(parent_of(swept))
    assert {(run.data.tags["trial"], run.data.params["train.max_lr"]) for run in runs} == {
        ("max_lr=0.001", "0.001"),
        ("max_lr=0.004", "0.004"),
    }


@pytest.mark.slow
def test_no_training_of_a_sweep_sees_the_test_fold(swept: Run) -> None:
    splits = [pd.read_csv(path) for path in swept.folder.glob("for-loop-*/train/model/clips.csv")]
    assert len(splits) == 2
    for split in splits:
        assert set(split["fold"][split["split"] == "held out"]) == {5}
        assert set(split["fold"][split["split"] == "train"]) == {1, 2, 4}


@pytest.mark.slow
def test_a_fold_that_fails_fails_the_run_with_its_name_and_the_parent_in_mlflow(
    demo_folder: Path, tiny: Params
) -> None:
    broken = dataclasses.replace(tiny, train=vary(tiny.train, max_lr=1e30, lr=1e30, epochs=1))
    with pytest.raises(RunError, match="Train: the training loss became") as raised:
        run(folds.crossval_arguments(broken, str(demo_folder), "3", 1, 1))
    assert "This was the training of demo, fold 3, seed 0." in str(raised.value)
    assert raised.value.status == 2
    failed = mlflow.search_runs(search_all_experiments=True, output_format="list", max_results=2)
    assert {run.info.status for run in failed} == {"FAILED"}
    assert all("fold 3, seed 0" in run.data.tags["failure"] for run in failed)
    child, parent = sorted(failed, key=lambda run: "mlflow.parentRunId" not in run.data.tags)
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id


def test_a_grid_of_one_trial_is_no_sweep() -> None:
    with pytest.raises(PlanError, match="holds one trial"):
        folds.sweep_arguments(ROOT / "params.yaml", [], "demo", ["train.max_lr=0.001"], "all", 1, 1)


def test_a_sweep_holds_the_test_fold_out_unless_others_are_named() -> None:
    grid = ["train.max_lr=0.001,0.002"]
    given = folds.sweep_arguments(ROOT / "params.yaml", [], "demo", grid, "all", 2, 1)
    assert (given["train"]["hold_out"], given["seeds"], given["folds"]) == ([5], [0, 1], [])
    other = folds.sweep_arguments(ROOT / "params.yaml", ["train.hold_out=[1]"], "demo", grid, "2,3", 1, 1)
    assert (other["train"]["hold_out"], other["folds"]) == ([1], [2, 3])
