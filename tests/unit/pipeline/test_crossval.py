"""The committed pipeline of many trainings, run by kfp.local: a cross-validation, a sweep, and a fold that fails."""

import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml
from helpers.networks import replace_settings
from helpers.project import ROOT, read_json
from helpers.trainings import Many, training
from rich.console import Console

from components.aggregate.step import aggregate
from components.plan_trials.step import PlanError
from pipeline import crossval, graph
from pipeline import settings as pipeline_settings
from pipeline.cli import experiments as folds
from pipeline.run import Run, RunError, run_local
from pipeline.settings import PipelineSettings

STEPS = ("ingest", "spectrogram-shard", "spectrograms", "plan-trials", "train", "evaluate", "aggregate")
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
def swept(demo_folder: Path, tiny: PipelineSettings, place: Path) -> Run:
    """The committed file on a grid of two values and two of the five folds, the fifth being held out."""
    settings = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    settings["train"] = {**tiny.train.to_dict(), "fold": 5}
    (place / "params.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    shutil.copytree(ROOT / "recipes", place / "recipes")
    grid = ["train.max_lr=0.001,0.004"]
    return run(folds.sweep_arguments(place / "params.yaml", [], str(demo_folder), grid, "2,4", 1, 1))


def concluded(run: Run) -> str:
    out = io.StringIO()
    folds.conclude(run, Console(file=out, width=200))
    return out.getvalue()


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
    settings = pipeline_settings.load(ROOT / "params.yaml")
    assert defaults["train"] == settings.train.to_dict()
    assert (defaults["folds"], defaults["seeds"]) == ([], [settings.train.seed])
    assert set(crossval.arguments(settings, "demo", [], [0])) <= set(defaults)


def test_nothing_is_registered_promoted_or_deployed() -> None:
    assert tuple(task.name for task in graph.read(folds.CROSSVAL).tasks) == STEPS
    looped = [task.name for task in graph.read(folds.CROSSVAL).tasks if task.repeated]
    assert looped == ["spectrogram-shard", "train", "evaluate"]


@pytest.mark.slow
def test_every_trial_is_trained_and_scored_on_every_fold_and_one_report_pools_them(swept: Run) -> None:
    assert (swept.ran, swept.skipped) == (STEPS, ())
    scored = [pd.read_csv(path) for path in swept.folder.glob("for-loop-*/evaluate/evaluation/predictions.csv")]
    assert sorted(fold for table in scored for fold in set(table["fold"])) == [2, 2, 4, 4]
    pooled = swept.output("pool", "pooled")
    together = pd.read_csv(pooled / "predictions.csv")
    assert together["correct"].sum() == sum((table["predicted"] == table["category"]).sum() for table in scored)
    trials = pd.read_csv(pooled / "trials.csv").set_index("trial")
    assert set(trials.index) == {"max_lr=0.001", "max_lr=0.004"} and set(trials["clips"]) == {20}
    assert trials["accuracy"].to_dict() == pytest.approx(together.groupby("trial")["correct"].mean().to_dict())
    assert trials["accuracy"].is_monotonic_decreasing
    assert read_json(pooled / "metrics.json")["accuracy"] == pytest.approx(trials["accuracy"].iloc[0])
    assert swept.output("pool", "report").read_bytes() == (pooled / "report.html").read_bytes()


@pytest.mark.slow
def test_the_checkpoints_of_what_was_pooled_are_gone(swept: Run, place: Path) -> None:
    assert not list((place / "var" / "checkpoints").iterdir())


def test_the_pool_reaches_the_checkpoints_on_the_volume_of_a_cluster() -> None:
    _, platform = yaml.safe_load_all(folds.CROSSVAL.read_text(encoding="utf-8"))
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert executors["exec-pool"]["pvcMount"] == executors["exec-train"]["pvcMount"]


@pytest.mark.slow
def test_no_training_of_a_sweep_sees_the_test_fold(swept: Run) -> None:
    splits = [pd.read_csv(path) for path in swept.folder.glob("for-loop-*/train/model/clips.csv")]
    assert len(splits) == 4
    for split in splits:
        assert set(split["fold"][split["split"] == "held out"]) == {5}
        assert set(split["fold"][split["split"] == "train"]) in ({1, 2, 3}, {1, 3, 4})


@pytest.mark.slow
def test_mlflow_shows_a_child_a_training_under_one_parent(swept: Run) -> None:
    parent = mlflow.MlflowClient().get_run(parent_of(swept))
    found = children(parent.info.run_id)
    tried = {(each.data.tags["trial"], each.data.params["train.fold"]): each for each in found}
    assert set(tried) == {(f"max_lr={rate}", fold) for rate in ("0.001", "0.004") for fold in ("2", "4")}
    assert {each.info.status for each in (parent, *found)} == {"FINISHED"}
    best = parent.data.tags["best_trial"]
    mean = np.mean([tried[best, fold].data.metrics["test.accuracy"] for fold in ("2", "4")])
    assert parent.data.metrics["pooled.accuracy"] == pytest.approx(mean)
    rows = pd.read_csv(swept.output("pool", "pooled") / "trainings.csv")
    assert set(rows["run_id"]) == {each.info.run_id for each in found}


@pytest.mark.slow
def test_people_see_every_trial_and_where_to_read_on(swept: Run) -> None:
    shown = concluded(swept)
    assert all(word in shown for word in ("max_lr=0.001", "max_lr=0.004", "report.html", "make mlflow"))


def test_people_see_every_fold_and_seed_of_a_cross_validation(tmp_path: Path) -> None:
    many = Many(tmp_path / "trainings")
    for seed in (0, 1):
        for fold in (1, 3):
            many.add(training(fold, seed), [True, True, False, seed == 0])
    settings = pipeline_settings.load(ROOT / "params.yaml").evaluate
    aggregate(many.plan, many.models, many.evaluations, settings, tmp_path / "aggregate" / "pooled")
    shown = concluded(Run((), (), tmp_path, tmp_path / "log"))
    assert all(word in shown for word in ("fold 1, seed 0", "fold 3, seed 1", "75.0%", "50.0%", "62.5%"))


@pytest.mark.slow
def test_a_fold_that_fails_fails_the_run_with_its_name_and_the_parent_in_mlflow(
    demo_folder: Path, tiny: PipelineSettings
) -> None:
    broken = tiny.replace(train=replace_settings(tiny.train, max_lr=1e30, lr=1e30, epochs=1))
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


def test_a_sweep_of_data_without_the_default_fold_holds_out_the_highest(tmp_path: Path) -> None:
    (tmp_path / "clips" / "meta").mkdir(parents=True)
    (tmp_path / "clips" / "meta" / "esc50.csv").write_text("filename,fold\na.wav,3\nb.wav,1\nc.wav,4\n")
    clips, grid = str(tmp_path / "clips"), ["train.max_lr=0.001,0.002"]
    given = folds.sweep_arguments(ROOT / "params.yaml", [], clips, grid, "all", 1, 1)
    assert given["train"]["hold_out"] == [4]
    with pytest.raises(PlanError, match=r"train\.hold_out: there is no fold 5 in .*; there are folds 1, 3, 4"):
        folds.sweep_arguments(ROOT / "params.yaml", ["train.fold=5"], clips, grid, "all", 1, 1)
