"""The step aggregate: metrics that an independent computation confirms, the report and the command."""

import html
import itertools
import shlex
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from helpers.project import ROOT
from helpers.trainings import DIGEST, FOLDS, SEEDS, Trainings, cross_validation, random_hits, start_parent_run, training
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, log_loss, recall_score
from typer.testing import CliRunner

from components.aggregate.step import aggregate
from components.aggregate.trials import Aggregate
from mlops.artifacts import AggregateFolder, EvaluationFolder, Predictions, write_plan
from mlops.settings import parse_overrides
from pipeline import settings as pipeline_settings

SETTINGS = pipeline_settings.load(ROOT / "params.yaml").evaluate


def run(trainings: Trainings, audit_fold: int | None = None) -> Aggregate:
    output, settings = trainings.folder / "aggregate", SETTINGS.replace(audit_fold=audit_fold)
    return aggregate(trainings.plan, trainings.models, trainings.evaluations, settings, output)


def output_of(trainings: Trainings) -> AggregateFolder:
    return AggregateFolder(trainings.folder / "aggregate")


def page_of(trainings: Trainings) -> str:
    return output_of(trainings).report.read_text()


@pytest.fixture(scope="module")
def folds(tmp_path_factory: pytest.TempPathFactory) -> Trainings:
    return cross_validation(tmp_path_factory.mktemp("folds"))


@pytest.fixture(scope="module")
def result(folds: Trainings) -> Aggregate:
    return run(folds)


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> Trainings:
    """Three trials on two folds of 20 clips, with 16, 12 and 16 correct clips per fold."""
    trainings = Trainings(tmp_path_factory.mktemp("trials"))
    for name, max_lr, correct in (("slow", 0.001, 12), ("fast", 0.002, 16), ("odd", 0.003, 16)):
        for fold in (1, 2):
            order = [number < correct for number in range(20)]
            settings = training(fold, max_lr=max_lr, hold_out=(5,))
            trainings.add(settings, order[::-1] if name == "odd" else order, name)
    return trainings


def test_metrics_over_all_folds_match_an_independent_computation(folds: Trainings, result: Aggregate) -> None:
    predictions = Predictions.concat([EvaluationFolder(folder).predictions() for folder in folds.evaluations])
    true, predicted = predictions.table["category"], predictions.table["predicted"]
    metrics = output_of(folds).metrics()
    assert metrics == result.metrics
    assert metrics.accuracy == pytest.approx(accuracy_score(true, predicted))
    assert metrics.macro_f1 == pytest.approx(f1_score(true, predicted, average="macro"))
    assert metrics.min_class_recall == pytest.approx(recall_score(true, predicted, average=None).min())
    probabilities = predictions.probabilities()
    expected = log_loss(true, probabilities / probabilities.sum(axis=1, keepdims=True), labels=list(folds.classes))
    assert metrics.loss == pytest.approx(expected, rel=1e-4)
    assert (metrics.clips, metrics.seeds) == (36, 2)
    written = pd.read_csv(folds.folder / "aggregate" / "confusion.csv").to_numpy()
    assert written.tolist() == confusion_matrix(true, predicted, labels=list(folds.classes)).tolist()


def test_the_deviation_is_that_of_the_accuracies_by_seed(result: Aggregate) -> None:
    by_seed = {seed: np.mean([random_hits(fold, seed) for fold in FOLDS]) for seed in SEEDS}
    assert result.best.accuracy_by_seed == pytest.approx(by_seed)
    assert result.metrics.accuracy == pytest.approx(np.mean(list(by_seed.values())))
    assert result.metrics.accuracy_deviation == pytest.approx(np.std(list(by_seed.values()), ddof=1))


def test_each_training_has_its_own_accuracy_and_interval(folds: Trainings, result: Aggregate) -> None:
    rows = output_of(folds).trainings()
    pd.testing.assert_frame_equal(rows, result.trainings)
    assert list(zip(rows["seed"], rows["fold"], strict=True)) == [(seed, fold) for seed in SEEDS for fold in FOLDS]
    for row in rows.itertuples():
        correct = sum(random_hits(row.fold, row.seed))
        interval = binomtest(correct, 12).proportion_ci(0.95, "wilson")
        assert (row.accuracy, row.accuracy_low, row.accuracy_high) == pytest.approx((correct / 12, *interval))


def test_further_seeds_do_not_narrow_the_interval(tmp_path: Path) -> None:
    one, two = Trainings(tmp_path / "one"), Trainings(tmp_path / "two")
    one.add(training(1, 0), random_hits(1, 0, 30))
    for seed in (0, 1):
        two.add(training(1, seed), random_hits(1, 0, 30))
    first, second = run(one).metrics, run(two).metrics
    interval = binomtest(sum(random_hits(1, 0, 30)), 30).proportion_ci(0.95, "wilson")
    for metrics in (first, second):
        assert metrics.clips == 30
        assert (metrics.accuracy_low, metrics.accuracy_high) == pytest.approx((interval.low, interval.high))


def test_all_predictions_are_written_with_trial_and_seed(folds: Trainings, result: Aggregate) -> None:
    table = output_of(folds).predictions().table
    assert len(table) == 72 and not table.duplicated(["seed", "filename"]).any()
    assert table["correct"].mean() == pytest.approx(result.metrics.accuracy)


def test_results_are_added_to_the_parent_run_and_it_ends(folds: Trainings, result: Aggregate) -> None:
    client = mlflow.MlflowClient()
    run = client.get_run(folds.parent)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["aggregate.accuracy"] == pytest.approx(result.metrics.accuracy)
    assert {Path(item.path).name for item in client.list_artifacts(folds.parent, "aggregate")} >= {
        "report.html",
        "predictions.csv",
        "trainings.csv",
        "metrics.json",
        "trials.json",
    }


def test_trials_are_ranked_and_compared_clip_by_clip(trials: Trainings) -> None:
    result = run(trials)
    table = output_of(trials).trials().set_index("trial")
    assert table["accuracy"].to_dict() == pytest.approx({"fast": 0.8, "odd": 0.8, "slow": 0.6})
    assert table.index[2] == "slow" and table["loss"].iloc[0] < table["loss"].iloc[1]
    assert result.metrics.trial == result.best.name == table.index[0]
    assert mlflow.MlflowClient().get_run(trials.parent).data.tags["best_trial"] == table.index[0]
    predictions = output_of(trials).predictions().table
    correct = predictions.pivot_table(index="filename", columns="trial", values="correct").to_numpy() > 0
    names = sorted(table.index)
    first = correct[:, names.index(table.index[0])]
    for name in table.index[1:]:
        other = correct[:, names.index(name)]
        only_first, only_other = int((first & ~other).sum()), int((other & ~first).sum())
        expected = binomtest(only_first, only_first + only_other).pvalue
        assert table["p_value"][name] == pytest.approx(expected)
    assert table["p_value"].iloc[0] == 1.0 and table["p_value"].iloc[1] == pytest.approx(1.0)


def test_the_report_names_selection_and_held_out_folds(trials: Trainings, folds: Trainings, result: Aggregate) -> None:
    best = run(trials).best
    page = page_of(trials)
    assert f"Best of 3 trials: {best.name}" in page and "80.0 % of 40 validation clips" in page
    assert "Selected on folds 1, 2" in page and "fold 5 held out" in page
    max_lr = best.results[0].request.settings.max_lr
    assert f"--set train.max_lr={max_lr} --set train.fold=5" in page and "--source" in page
    other = page_of(folds)
    assert f"{100 * result.metrics.accuracy:.1f} % of 36 unseen clips" in other and "Folds 1, 2, 5, each" in other
    for text in (page, other):
        assert "http://" not in text and "https://" not in text and "<script" not in text


def final_command(trials: Trainings, audit_fold: int | None = None) -> list[str]:
    """Return the words of the command at the end of the report."""
    run(trials, audit_fold)
    page = page_of(trials)
    return shlex.split(html.unescape(page.partition("<p><code>")[2].partition("</code>")[0]))


@pytest.mark.parametrize(("hold_out", "options"), [((2,), {"run"}), ((2, 5), {"crossval", "--folds", "2,5"})])
def test_the_command_in_the_report_has_the_best_trial_s_settings(
    hold_out: tuple[int, ...], options: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    trainings = Trainings(tmp_path / "trainings")
    for width in (0.25, 0.5):
        changes = {"epochs": 3, "architecture": {"width": width}, "device": "cpu", "augment": {"mix": "power"}}
        settings = training(1, hold_out=hold_out).merged_with(changes, "test")
        trainings.add(settings, [True, False, width > 0.3], str(width))
    command, *words = final_command(trainings)
    assert command == "audiocnn" and options < set(words)
    assignments = [word for before, word in itertools.pairwise(words) if before == "--set"]
    read = pipeline_settings.load(ROOT / "params.yaml", parse_overrides(assignments)).train
    tested = {"fold": 2} if len(hold_out) == 1 else {}
    default = pipeline_settings.load(ROOT / "params.yaml").train
    expected = {"fold": default.fold, "seed": default.seed, "hold_out": [], **tested}
    best = run(trainings).best.results[0].request.settings
    assert best.architecture.width == 0.5
    assert read == best.merged_with(expected, "test")
    assert len(assignments) <= 6, "settings equal to params.yaml and the recipe are left out"


@pytest.mark.parametrize(("hold_out", "tested"), [((5,), 1), ((2, 5), 2)])
def test_the_command_keeps_the_audit_fold_held_out(
    hold_out: tuple[int, ...], tested: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    trainings = Trainings(tmp_path / "trainings")
    for epochs in (3, 4):
        trainings.add(training(1, hold_out=hold_out, epochs=epochs), [True, False, epochs > 3], str(epochs))
    words = final_command(trainings, audit_fold=5)
    assignments = [word for before, word in itertools.pairwise(words) if before == "--set"]
    # A refused command would raise here.
    read = pipeline_settings.load(ROOT / "params.yaml", parse_overrides(assignments))
    assert words[1] == "run" and (read.train.fold, [*read.train.hold_out], read.evaluate.audit_fold) == (tested, [5], 5)
    assert ("That on the audit fold is unbiased" in page_of(trainings)) == (tested == 1)


def test_names_are_escaped_in_the_report(tmp_path: Path) -> None:
    trainings = Trainings(tmp_path, classes=("dog", "<script>alert(1)</script>"))
    trainings.add(training(1, hold_out=(2,)), [True, False], "<b>one</b>")
    trainings.add(training(1, hold_out=(2,), epochs=8), [True, True], "<b>two</b>")
    run(trainings)
    page = page_of(trainings)
    assert "<script" not in page and "<b>two" not in page


def test_the_command_accepts_folders_in_any_order(folds: Trainings, result: Aggregate, tmp_path: Path) -> None:
    import typer

    from components.aggregate.__main__ import main

    app = typer.Typer()
    app.command()(main)
    parent = start_parent_run()
    write_plan(tmp_path / "plan.json", [request.replace(parent_run=parent) for request in folds.plan])
    folders = [str(folder.parent) for folder in folds.models]
    options = ["--plan", str(tmp_path / "plan.json"), "--output", str(tmp_path / "aggregate")]
    options += ["--params", str(ROOT / "params.yaml")]
    outcome = CliRunner().invoke(app, [*folders, *options], catch_exceptions=False)
    assert outcome.exit_code == 0, outcome.output
    assert AggregateFolder(tmp_path / "aggregate").metrics() == result.metrics
    assert DIGEST in (tmp_path / "aggregate" / "report.html").read_text()
