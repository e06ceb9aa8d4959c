"""Cross-validations and sweeps on this machine, and what is refused before they start."""

import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml
from helpers.networks import replace_settings
from helpers.project import ROOT
from helpers.trainings import Trainings, training
from rich.console import Console

from components.aggregate.step import aggregate
from components.plan_trials.request import PlanError
from mlops.artifacts import AggregateFolder, EvaluationFolder, ModelFolder, read_plan
from pipeline import settings as pipeline_settings
from pipeline.cli.summary import show_crossval
from pipeline.experiments import crossval_request, sweep_request
from pipeline.local import Run, run_crossval
from pipeline.run_folders import RunError
from pipeline.settings import PipelineSettings
from pipeline.steps import CROSSVAL_STEPS

PARAMS = ROOT / "params.yaml"
pytestmark = [pytest.mark.xdist_group("crossval"), pytest.mark.timeout(600)]


@pytest.fixture(scope="module", autouse=True)
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return one working directory, so that later runs find the spectrograms of the first."""
    folder = tmp_path_factory.mktemp("many")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


@pytest.fixture(scope="module")
def swept(demo_folder: Path, tiny: PipelineSettings, place: Path) -> Run:
    """Return a sweep over two values and two of the five folds; the fifth is held out."""
    params = yaml.safe_load(PARAMS.read_text(encoding="utf-8"))
    params["train"] = {**tiny.train.to_dict(), "fold": 5}
    (place / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    shutil.copytree(ROOT / "recipes", place / "recipes")
    grid = ["train.max_lr=0.001,0.004"]
    settings, request = sweep_request(place / "params.yaml", [], str(demo_folder), grid, "2,4", 1)
    return run_crossval(settings, str(demo_folder), request, together=3)  # of four


def shown(run: Run) -> str:
    out = io.StringIO()
    show_crossval(run, Console(file=out, width=200))
    return out.getvalue()


def outputs(run: Run, step: str) -> list[Path]:
    return [run.output(step, f"training-{number}") for number in range(1, 5)]


def parent_id(run: Run) -> str:
    (parent,) = {request.parent_run for request in read_plan(run.output("plan_trials"))}
    return parent


@pytest.mark.slow
def test_every_trial_is_evaluated_on_every_fold(swept: Run) -> None:
    assert tuple(swept.executed) == CROSSVAL_STEPS
    scored = [EvaluationFolder(path).predictions().table for path in outputs(swept, "evaluate")]
    assert sorted(fold for table in scored for fold in set(table["fold"])) == [2, 2, 4, 4]
    folder = AggregateFolder(swept.output("aggregate"))
    predictions = folder.predictions().table
    assert predictions["correct"].sum() == sum((table["predicted"] == table["category"]).sum() for table in scored)
    trials = folder.trials().set_index("trial")
    assert set(trials.index) == {"max_lr=0.001", "max_lr=0.004"} and set(trials["clips"]) == {20}
    assert trials["accuracy"].to_dict() == pytest.approx(predictions.groupby("trial")["correct"].mean().to_dict())
    assert trials["accuracy"].is_monotonic_decreasing
    assert folder.metrics().accuracy == pytest.approx(trials["accuracy"].iloc[0])


@pytest.mark.slow
def test_checkpoints_are_deleted_after_the_aggregation(swept: Run, place: Path) -> None:
    assert not list((place / "var" / "checkpoints").iterdir())


@pytest.mark.slow
def test_no_training_of_a_sweep_sees_the_test_fold(swept: Run) -> None:
    for path in outputs(swept, "train"):
        split = ModelFolder(path).splits()
        assert set(split["fold"][split["split"] == "held out"]) == {5}
        assert set(split["fold"][split["split"] == "train"]) in ({1, 2, 3}, {1, 3, 4})


@pytest.mark.slow
def test_mlflow_has_a_nested_run_for_each_training(swept: Run) -> None:
    parent = mlflow.MlflowClient().get_run(parent_id(swept))
    children = mlflow.search_runs(
        filter_string=f"tags.mlflow.parentRunId = '{parent.info.run_id}'",
        search_all_experiments=True,
        output_format="list",
    )
    tried = {(run.data.tags["trial"], run.data.params["train.fold"]): run for run in children}
    assert set(tried) == {(f"max_lr={rate}", fold) for rate in ("0.001", "0.004") for fold in ("2", "4")}
    assert {run.info.status for run in (parent, *children)} == {"FINISHED"}
    best = parent.data.tags["best_trial"]
    mean = np.mean([tried[best, fold].data.metrics["test.accuracy"] for fold in ("2", "4")])
    accuracies = [value for name, value in parent.data.metrics.items() if name.endswith(".accuracy")]
    assert accuracies == [pytest.approx(mean)]
    rows = pd.read_csv(swept.output("aggregate") / "trainings.csv")
    assert set(rows["run_id"]) == {run.info.run_id for run in children}


@pytest.mark.slow
def test_trials_and_report_of_a_sweep_are_shown(swept: Run) -> None:
    text = shown(swept)
    assert all(word in text for word in ("max_lr=0.001", "max_lr=0.004", "report.html", "make mlflow"))


def test_folds_and_seeds_of_a_cross_validation_are_shown(tmp_path: Path) -> None:
    many = Trainings(tmp_path / "trainings")
    for seed in (0, 1):
        for fold in (1, 3):
            many.add(training(fold, seed), [True, True, False, seed == 0])
    settings = pipeline_settings.load(PARAMS).evaluate

    class Finished(Run):
        def __init__(self) -> None:
            self.folder = tmp_path

        def output(self, step: str, subfolder: str = "") -> Path:
            return many.models[0] if step == "train" else super().output(step, subfolder)

        def seconds(self, step: str) -> float:
            return 278.2

    run = Finished()
    aggregate(many.plan, many.models, many.evaluations, settings, run.output("aggregate"))
    text = shown(run)
    assert all(word in text for word in ("fold 1, seed 0", "fold 3, seed 1", "75.0%", "50.0%", "62.5%"))
    assert "Lowest recall: sea_waves 0%, " in text and "All trainings: 278 s on a GPU\n" in text


@pytest.mark.slow
def test_a_failed_fold_is_named_in_the_error_and_in_mlflow(demo_folder: Path, tiny: PipelineSettings) -> None:
    broken = tiny.replace(train=replace_settings(tiny.train, max_lr=1e30, lr=1e30, epochs=1))
    source = str(demo_folder)
    with pytest.raises(RunError, match="Train: the training loss became") as raised:
        run_crossval(broken, source, crossval_request(broken, source, "3", 1))
    assert "fold 3, seed 0" in str(raised.value)
    assert raised.value.status == 2
    failed = mlflow.search_runs(search_all_experiments=True, output_format="list", max_results=2)
    assert {run.info.status for run in failed} == {"FAILED"}
    assert all("fold 3, seed 0" in run.data.tags["failure"] for run in failed)
    child, parent = sorted(failed, key=lambda run: "mlflow.parentRunId" not in run.data.tags)
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id


def test_a_grid_of_one_trial_is_refused() -> None:
    with pytest.raises(PlanError, match="has one trial"):
        sweep_request(PARAMS, [], "demo", ["train.max_lr=0.001"], "all", 1)


def test_a_sweep_holds_out_the_test_fold_by_default() -> None:
    grid = ["train.max_lr=0.001,0.002"]
    settings, request = sweep_request(PARAMS, [], "demo", grid, "all", 2)
    assert (settings.train.hold_out, list(request.seeds), request.folds) == ((5,), [0, 1], ())
    settings, request = sweep_request(PARAMS, ["train.hold_out=[1]"], "demo", grid, "2,3", 1)
    assert (settings.train.hold_out, request.folds) == ((1,), (2, 3))


def test_a_sweep_of_data_without_the_test_fold_holds_out_the_highest(tmp_path: Path) -> None:
    (tmp_path / "clips" / "meta").mkdir(parents=True)
    (tmp_path / "clips" / "meta" / "esc50.csv").write_text("filename,fold\na.wav,3\nb.wav,1\nc.wav,4\n")
    clips, grid = str(tmp_path / "clips"), ["train.max_lr=0.001,0.002"]
    settings, _ = sweep_request(PARAMS, [], clips, grid, "all", 1)
    assert settings.train.hold_out == (4,)
    with pytest.raises(PlanError, match=r"train\.hold_out: .*fold 5.* 1, 3, 4"):
        sweep_request(PARAMS, ["train.fold=5"], clips, grid, "all", 1)
