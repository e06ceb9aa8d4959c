"""The step aggregate refuses results that are incomplete or do not belong together."""

import shutil
from collections.abc import Callable
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from helpers.project import ROOT
from helpers.trainings import Trainings, cross_validation, start_parent_run, training

from audiocnn.classifier import Classifier
from audiocnn.errors import AudioCNNError
from components.aggregate.collect import AggregateError
from components.aggregate.step import aggregate
from components.aggregate.trials import Aggregate
from mlops.outputs import OutputError
from pipeline import settings as pipeline_settings

SETTINGS = pipeline_settings.load(ROOT / "params.yaml").evaluate


def run(trainings: Trainings) -> Aggregate:
    output = trainings.folder / "aggregate"
    return aggregate(trainings.plan, trainings.models, trainings.evaluations, SETTINGS, output)


@pytest.fixture(scope="module")
def folds(tmp_path_factory: pytest.TempPathFactory) -> Trainings:
    return cross_validation(tmp_path_factory.mktemp("folds"))


def copy(folds: Trainings, folder: Path) -> Trainings:
    """Return a copy with another parent run."""
    parent = start_parent_run()
    models, evaluations = [], []
    for number, (model, evaluation) in enumerate(zip(folds.models, folds.evaluations, strict=True)):
        models.append(shutil.copytree(model, folder / str(number) / "model"))
        evaluations.append(shutil.copytree(evaluation, folder / str(number) / "evaluation"))
    plan = [request.replace(parent_run=parent) for request in folds.plan]
    return Trainings(folder, parent, folds.classes, plan, models, evaluations)


def remove_a_training(trainings: Trainings) -> None:
    del trainings.models[0], trainings.evaluations[0]


def duplicate_a_training(trainings: Trainings) -> None:
    trainings.models.append(trainings.models[0])
    trainings.evaluations.append(trainings.evaluations[0])


def add_an_unplanned_training(trainings: Trainings) -> None:
    trainings.add(training(1, 7), [True], planned=False)


def swap_two_evaluations(trainings: Trainings) -> None:
    trainings.evaluations[:2] = reversed(trainings.evaluations[:2])


def remove_an_evaluation(trainings: Trainings) -> None:
    trainings.evaluations.pop()


def edit(trainings: Trainings, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    path = trainings.evaluations[0] / "predictions.csv"
    change(pd.read_csv(path)).to_csv(path, index=False)


def remove_a_clip(trainings: Trainings) -> None:
    edit(trainings, lambda table: table.iloc[1:])


def duplicate_a_clip(trainings: Trainings) -> None:
    edit(trainings, lambda table: pd.concat([table, table.iloc[:1]]))


def replace_a_clip(trainings: Trainings) -> None:
    edit(trainings, lambda table: table.replace({"filename": {"5-0.wav": "9-0.wav"}}))


def add_a_clip(trainings: Trainings) -> None:
    edit(trainings, lambda table: pd.concat([table, table.iloc[:1].assign(filename="9-0.wav")]))


def rename_a_class(trainings: Trainings) -> None:
    edit(trainings, lambda table: table.rename(columns={"p:dog": "p:cat"}).replace({"dog": "cat"}))


def remove_the_digest(trainings: Trainings) -> None:
    (trainings.evaluations[0] / "evaluated_model.json").unlink()


def change_the_data_set(trainings: Trainings) -> None:
    model = trainings.models[0]
    classifier = Classifier.load(model)
    classifier.provenance["dataset"] = {**classifier.provenance["dataset"], "digest": "cd" * 32}
    classifier.save(model)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (remove_a_training, "1 of 6 planned trainings have no result, the first is fold 5, seed 4"),
        (duplicate_a_training, "fold 5, seed 4: there are 2 results of this training"),
        (add_an_unplanned_training, r"the plan has no training with these settings \(fold 1, seed 7\)"),
        (swap_two_evaluations, "fold 5, seed 4: .* is the evaluation of another model"),
        (remove_an_evaluation, "6 models and 5 evaluations"),
        (remove_a_clip, "fold 5, seed 4: 1 clips have no prediction, the first is 5-0.wav"),
        (duplicate_a_clip, "fold 5, seed 4: the clip 5-0.wav has two predictions"),
        (replace_a_clip, "1 clips have no prediction, the first is 5-0.wav"),
        (add_a_clip, "1 clips have a prediction but are not in the test fold, the first is 9-0.wav"),
        (rename_a_class, "have different classes"),
        (remove_the_digest, r"evaluated_model\.json: file is missing; run the step evaluate"),
        (change_the_data_set, "different data sets"),
    ],
)
def test_incomplete_results_are_refused_and_the_parent_run_fails(
    damage: Callable[[Trainings], None], words: str, folds: Trainings, tmp_path: Path
) -> None:
    trainings = copy(folds, tmp_path)
    damage(trainings)
    with pytest.raises(AudioCNNError, match=words):
        run(trainings)
    assert not (tmp_path / "aggregate").exists()
    parent = mlflow.MlflowClient().get_run(trainings.parent)
    assert parent.info.status == "FAILED" and "Error" in parent.data.tags["failure"]


def test_only_an_earlier_output_of_the_step_is_replaced(folds: Trainings, tmp_path: Path) -> None:
    trainings = copy(folds, tmp_path)
    (tmp_path / "aggregate").mkdir()
    (tmp_path / "aggregate" / "notes.txt").write_text("a year's work")
    with pytest.raises(OutputError, match=r"it has no trials\.csv"):
        run(trainings)
    assert (tmp_path / "aggregate" / "notes.txt").exists()
    assert mlflow.MlflowClient().get_run(trainings.parent).info.status == "RUNNING"
    shutil.rmtree(tmp_path / "aggregate")
    assert run(trainings).metrics == run(trainings).metrics


def test_an_empty_plan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AggregateError, match="the plan is empty"):
        aggregate([], [], [], SETTINGS, tmp_path / "aggregate")
