"""The step pool: figures that an independent computation confirms, and nothing that is not whole."""

import html
import itertools
import shlex
import shutil
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from helpers.project import ROOT, read_json
from helpers.trainings import DIGEST, Many, begin, training
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, log_loss, recall_score
from typer.testing import CliRunner

from audiocnn.atomic import OutputError
from audiocnn.classifier import Classifier
from components.aggregate.gather import AggregateError
from components.aggregate.step import Aggregate, aggregate
from mlops.settings import parse_overrides
from pipeline import settings as pipeline_settings

SETTINGS = pipeline_settings.load(ROOT / "params.yaml").evaluate
SEEDS, FOLDS = (3, 4), (1, 2, 5)


def run(many: Many) -> Aggregate:
    return aggregate(many.plan, many.models, many.evaluations, SETTINGS, many.folder / "pooled")


def hits(fold: int, seed: int, clips: int = 12) -> list[bool]:
    return list(np.random.default_rng([fold, seed, 9]).uniform(size=clips) < 0.6 + 0.05 * fold)


@pytest.fixture(scope="module")
def folds(tmp_path_factory: pytest.TempPathFactory) -> Many:
    """Three folds of 12 clips, two seeds, one trial; the plan's order is not that of the folders."""
    many = Many(tmp_path_factory.mktemp("folds"))
    for seed in SEEDS:
        for fold in FOLDS:
            many.add(training(fold, seed), hits(fold, seed))
    many.models.reverse()
    many.evaluations.reverse()
    return many


@pytest.fixture(scope="module")
def pooled(folds: Many) -> Aggregate:
    return run(folds)


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> Many:
    """Three trials on two folds of 20 clips: 16, 12 and 16 right in each, the last less sure of them."""
    many = Many(tmp_path_factory.mktemp("trials"))
    for name, max_lr, right in (("slow", 0.001, 12), ("fast", 0.002, 16), ("odd", 0.003, 16)):
        for fold in (1, 2):
            order = [number < right for number in range(20)]
            settings = training(fold, max_lr=max_lr, hold_out=(5,))
            many.add(settings, order[::-1] if name == "odd" else order, name)
    return many


def test_the_figures_of_all_folds_are_those_of_an_independent_computation(folds: Many, pooled: Aggregate) -> None:
    tables = [pd.read_csv(folder / "predictions.csv") for folder in folds.evaluations]
    together = pd.concat(tables)
    true, said = together["category"], together["predicted"]
    metrics = read_json(folds.folder / "pooled" / "metrics.json")
    assert metrics["accuracy"] == pytest.approx(accuracy_score(true, said))
    assert metrics["macro_f1"] == pytest.approx(f1_score(true, said, average="macro"))
    assert metrics["min_class_recall"] == pytest.approx(recall_score(true, said, average=None).min())
    probabilities = together[[f"p:{name}" for name in folds.classes]]
    expected = log_loss(true, probabilities.div(probabilities.sum(axis=1), axis=0), labels=list(folds.classes))
    assert metrics["loss"] == pytest.approx(expected, rel=1e-4)
    assert (metrics["clips"], metrics["seeds"]) == (36, 2)
    written = pd.read_csv(folds.folder / "pooled" / "confusion.csv").to_numpy()
    assert written.tolist() == confusion_matrix(true, said, labels=list(folds.classes)).tolist()


def test_the_accuracy_of_each_seed_is_pooled_over_the_folds_and_their_deviation_told(pooled: Aggregate) -> None:
    each = {seed: np.mean([hits(fold, seed) for fold in FOLDS]) for seed in SEEDS}
    assert pooled.best.by_seed == pytest.approx(each)
    assert pooled.metrics["accuracy"] == pytest.approx(np.mean(list(each.values())))
    assert pooled.metrics["accuracy_deviation"] == pytest.approx(np.std(list(each.values()), ddof=1))


def test_each_fold_has_its_own_accuracy_and_interval(pooled: Aggregate) -> None:
    rows = pooled.trainings
    assert list(zip(rows["seed"], rows["fold"], strict=True)) == [(seed, fold) for seed in SEEDS for fold in FOLDS]
    for row in rows.itertuples():
        right = sum(hits(row.fold, row.seed))
        interval = binomtest(right, 12).proportion_ci(0.95, "wilson")
        assert (row.accuracy, row.accuracy_low, row.accuracy_high) == pytest.approx((right / 12, *interval))


def test_a_second_seed_makes_no_clip_count_twice_in_the_interval(tmp_path: Path) -> None:
    one, two = Many(tmp_path / "one"), Many(tmp_path / "two")
    one.add(training(1, 0), hits(1, 0, 30))
    for seed in (0, 1):
        two.add(training(1, seed), hits(1, 0, 30))
    first, second = run(one).metrics, run(two).metrics
    assert {name: second[name] for name in ("accuracy_low", "accuracy_high", "clips")} == {
        name: pytest.approx(first[name]) for name in ("accuracy_low", "accuracy_high", "clips")
    }
    interval = binomtest(sum(hits(1, 0, 30)), 30).proportion_ci(0.95, "wilson")
    assert (first["accuracy_low"], first["accuracy_high"]) == pytest.approx((interval.low, interval.high))


def test_the_predictions_of_all_are_kept_with_trial_and_seed(folds: Many, pooled: Aggregate) -> None:
    kept = pd.read_csv(folds.folder / "pooled" / "predictions.csv")
    assert len(kept) == 72 and not kept.duplicated(["seed", "filename"]).any()
    assert kept["correct"].mean() == pytest.approx(pooled.metrics["accuracy"])


def test_mlflow_s_parent_run_ends_with_the_figures_the_tables_and_the_report(folds: Many, pooled: Aggregate) -> None:
    client = mlflow.MlflowClient()
    kept = client.get_run(folds.parent)
    assert kept.info.status == "FINISHED"
    assert kept.data.metrics["pooled.accuracy"] == pytest.approx(pooled.metrics["accuracy"])
    assert {Path(item.path).name for item in client.list_artifacts(folds.parent, "pooled")} >= {
        "report.html",
        "predictions.csv",
        "trainings.csv",
        "metrics.json",
        "trials.json",
    }


def test_trials_are_ranked_by_accuracy_then_loss_and_tested_clip_by_clip(trials: Many) -> None:
    pooled = run(trials)
    table = pd.read_csv(trials.folder / "pooled" / "trials.csv").set_index("trial")
    assert table["accuracy"].to_dict() == pytest.approx({"fast": 0.8, "odd": 0.8, "slow": 0.6})
    assert table.index[2] == "slow" and table["loss"].iloc[0] < table["loss"].iloc[1]
    assert pooled.metrics["trial"] == pooled.best.name == table.index[0]
    assert mlflow.MlflowClient().get_run(trials.parent).data.tags["best_trial"] == table.index[0]
    kept = pd.read_csv(trials.folder / "pooled" / "predictions.csv")
    right = kept.pivot_table(index="filename", columns="trial", values="correct").to_numpy() > 0
    names = sorted(table.index)
    first = right[:, names.index(table.index[0])]
    for name in table.index[1:]:
        other = right[:, names.index(name)]
        only_first, only_other = int((first & ~other).sum()), int((other & ~first).sum())
        expected = binomtest(only_first, only_first + only_other).pvalue
        assert table["p_value"][name] == pytest.approx(expected)
    assert table["p_value"].iloc[0] == 1.0 and table["p_value"].iloc[1] == pytest.approx(1.0)


def test_the_report_stands_alone_and_says_what_was_chosen_where(trials: Many, folds: Many, pooled: Aggregate) -> None:
    best = run(trials).best
    page = (trials.folder / "pooled" / "report.html").read_text()
    assert f"{best.name}: the best of 3, with 80.0 % of 40 validation clips" in page
    assert "Chosen on folds 1, 2" in page and "fold 5 held out" in page
    assert f"--set train.max_lr={best.results[0].settings.max_lr} --set train.fold=5" in page and "--source" in page
    other = (folds.folder / "pooled" / "report.html").read_text()
    assert f"{100 * pooled.metrics['accuracy']:.1f} % of 36 unseen clips" in other and "Folds 1, 2, 5, each" in other
    for text in (page, other):
        assert "http://" not in text and "https://" not in text and "<script" not in text


def closing_command(trials: Many) -> list[str]:
    """The words of the command with which the report closes."""
    run(trials)
    page = (trials.folder / "pooled" / "report.html").read_text()
    return shlex.split(html.unescape(page.partition("<p><code>")[2].partition("</code>")[0]))


@pytest.mark.parametrize(("hold_out", "options"), [((2,), {"run"}), ((2, 5), {"crossval", "--folds", "2,5"})])
def test_the_report_s_command_leads_to_the_settings_of_the_best_trial(
    hold_out: tuple[int, ...], options: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    many = Many(tmp_path / "many")
    for width in (0.25, 0.5):
        changes = {"epochs": 3, "architecture": {"width": width}, "device": "cpu", "augment": {"mix": "power"}}
        settings = training(1, hold_out=hold_out).change(changes, "test")
        many.add(settings, [True, False, width > 0.3], str(width))
    command, *words = closing_command(many)
    assert command == "audiocnn" and options < set(words)
    assignments = [word for before, word in itertools.pairwise(words) if before == "--set"]
    read = pipeline_settings.load(ROOT / "params.yaml", parse_overrides(assignments)).train
    tested = {"fold": 2} if len(hold_out) == 1 else {}
    default = pipeline_settings.load(ROOT / "params.yaml").train
    expected = {"fold": default.fold, "seed": default.seed, "hold_out": [], **tested}
    best = run(many).best.results[0].settings
    assert best.architecture.width == 0.5
    assert read == best.change(expected, "test")
    assert len(assignments) <= 6, "what is as in params.yaml and the recipe is left out"


def test_names_are_escaped_in_the_report(tmp_path: Path) -> None:
    many = Many(tmp_path, classes=("dog", "<script>alert(1)</script>"))
    many.add(training(1, hold_out=(2,)), [True, False], "<b>one</b>")
    many.add(training(1, hold_out=(2,), epochs=8), [True, True], "<b>two</b>")
    run(many)
    page = (tmp_path / "pooled" / "report.html").read_text()
    assert "<script" not in page and "<b>two" not in page


def copied(folds: Many, tmp_path: Path) -> Many:
    """A copy to spoil, under a parent of its own."""
    parent = begin()
    models, evaluations = [], []
    for number, (model, evaluation) in enumerate(zip(folds.models, folds.evaluations, strict=True)):
        models.append(shutil.copytree(model, tmp_path / str(number) / "model"))
        evaluations.append(shutil.copytree(evaluation, tmp_path / str(number) / "evaluation"))
    plan = [{**each, "parent": parent} for each in folds.plan]
    return Many(tmp_path, parent, folds.classes, plan, models, evaluations)


def spoil_missing(many: Many) -> None:
    del many.models[0], many.evaluations[0]


def spoil_twice(many: Many) -> None:
    many.models.append(many.models[0])
    many.evaluations.append(many.evaluations[0])


def spoil_unplanned(many: Many) -> None:
    many.add(training(1, 7), [True], planned=False)


def spoil_pairs(many: Many) -> None:
    many.evaluations[:2] = reversed(many.evaluations[:2])


def spoil_alone(many: Many) -> None:
    many.evaluations.pop()


def edit(many: Many, change) -> None:
    path = many.evaluations[0] / "predictions.csv"
    change(pd.read_csv(path)).to_csv(path, index=False)


def spoil_clip_lost(many: Many) -> None:
    edit(many, lambda table: table.iloc[1:])


def spoil_clip_twice(many: Many) -> None:
    edit(many, lambda table: pd.concat([table, table.iloc[:1]]))


def spoil_clip_of_another_fold(many: Many) -> None:
    edit(many, lambda table: table.replace({"filename": {"5-0.wav": "9-0.wav"}}))


def spoil_class(many: Many) -> None:
    edit(many, lambda table: table.rename(columns={"p:dog": "p:cat"}))


def spoil_unreadable(many: Many) -> None:
    (many.evaluations[0] / "metrics.json").unlink()


def spoil_data(many: Many) -> None:
    model = many.models[0]
    classifier = Classifier.load(model)
    classifier.provenance["dataset"] = {**classifier.provenance["dataset"], "digest": "cd" * 32}
    classifier.save(model)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (spoil_missing, "1 of 6 planned trainings left no predictions: fold 5, seed 4 the first"),
        (spoil_twice, "fold 5, seed 4: its predictions are there 2 times"),
        (spoil_unplanned, "fold 1, seed 7: a training with these settings is not in the plan"),
        (spoil_pairs, "fold 5, seed 4: .* predictions of another model"),
        (spoil_alone, "6 models and 5 evaluations"),
        (spoil_clip_lost, r"fold 5, seed 4: 1 clips are not as they should be: 5-0.wav has no prediction"),
        (spoil_clip_twice, "fold 5, seed 4: 5-0.wav is predicted twice"),
        (spoil_clip_of_another_fold, "5-0.wav has no prediction"),
        (spoil_class, "the classes in .* are not those of the model"),
        (spoil_unreadable, "no evaluation of .* can be read"),
        (spoil_data, "different data sets"),
    ],
)
def test_what_is_not_whole_is_refused_and_the_parent_run_fails(spoil, words: str, folds: Many, tmp_path: Path) -> None:
    many = copied(folds, tmp_path)
    spoil(many)
    with pytest.raises(AggregateError, match=words):
        run(many)
    assert not (tmp_path / "pooled").exists()
    kept = mlflow.MlflowClient().get_run(many.parent)
    assert kept.info.status == "FAILED" and "AggregateError" in kept.data.tags["failure"]


def test_only_an_earlier_output_of_its_own_is_replaced(folds: Many, tmp_path: Path) -> None:
    many = copied(folds, tmp_path)
    (tmp_path / "pooled").mkdir()
    (tmp_path / "pooled" / "notes.txt").write_text("a year's work")
    with pytest.raises(OutputError, match=r"holds no trials\.csv"):
        run(many)
    assert (tmp_path / "pooled" / "notes.txt").exists()
    assert mlflow.MlflowClient().get_run(many.parent).info.status == "RUNNING"
    shutil.rmtree(tmp_path / "pooled")
    assert run(many).metrics == run(many).metrics


def test_an_empty_plan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AggregateError, match="the plan is empty"):
        aggregate([], [], [], SETTINGS, tmp_path / "pooled")


def test_the_command_takes_folders_in_any_order(folds: Many, pooled: Aggregate, tmp_path: Path) -> None:
    import json

    import typer
    from components.pool.__main__ import main

    app = typer.Typer()
    app.command()(main)
    (tmp_path / "plan.json").write_text(json.dumps([{**each, "parent": begin()} for each in folds.plan]))
    given = [str(folder.parent) for folder in folds.models]
    options = ["--plan", str(tmp_path / "plan.json"), "--output", str(tmp_path / "pooled")]
    options += ["--params", str(ROOT / "params.yaml")]
    result = CliRunner().invoke(app, [*given, *options], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    again = read_json(tmp_path / "pooled" / "metrics.json")
    assert again == read_json(folds.folder / "pooled" / "metrics.json")
    assert DIGEST in (tmp_path / "pooled" / "report.html").read_text()
