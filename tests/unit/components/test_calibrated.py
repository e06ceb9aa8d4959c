"""Training with a calibration fold and without some classes, and what the step evaluate says about unknown sounds."""

from pathlib import Path

import numpy as np
import pytest
from helpers.project import ROOT
from helpers.train import Train

from audiocnn.data.clips import DatasetError, read_clips, split
from audiocnn.data.spectrogram_set import SpectrogramSet
from audiocnn.novelty import measure_novelty
from audiocnn.training.calibrating import calibrate
from components.evaluate.step import evaluate
from components.plan_trials.request import PlanError, PlanRequest, check_request
from components.register import card
from mlops.artifacts import DatasetFolder, EvaluationFolder, ModelFolder
from pipeline.cli.run import demo_settings
from pipeline.experiments import check_fold
from pipeline.settings import PipelineSettings

LEFT_OUT = ("engine", "rain")


@pytest.fixture
def model(train: Train, tiny: PipelineSettings) -> ModelFolder:
    """A model that is calibrated on fold 4 and was trained without LEFT_OUT."""
    return ModelFolder(train(tiny.train.replace(calibration_fold=4, leave_out=LEFT_OUT)))


def test_clips_of_the_calibration_fold_are_not_trained_on(model: ModelFolder, spectrogram_folder: Path) -> None:
    splits, clips = model.splits(), read_clips(spectrogram_folder / "clips.csv")
    known = ~clips["category"].isin(LEFT_OUT)
    for name, folds in {"train": {1, 3, 5}, "test": {2}, "calibration": {4}}.items():
        rows = splits["split"] == name
        assert set(splits["fold"][rows]) == folds and rows.sum() == 8 * len(folds) and known[rows].all()
    assert model.training_clips() == {*clips["md5"][known & (clips["fold"] != 2)]}


def test_the_calibration_is_that_of_the_clips_of_its_fold(
    model: ModelFolder, spectrogram_folder: Path, tiny: PipelineSettings
) -> None:
    classifier = model.classifier()
    assert len(classifier.classes) == 8 and not {*LEFT_OUT} & {*classifier.classes}
    data = SpectrogramSet.open(spectrogram_folder).without_classes(LEFT_OUT)
    rows = np.flatnonzero((data.clips["fold"] == 4) & (data.labels >= 0))
    found = calibrate(classifier, data, rows, tiny.train)
    assert classifier.calibration is not None
    assert found.temperature == pytest.approx(classifier.calibration.temperature, rel=1e-4)
    assert found.thresholds == pytest.approx(classifier.calibration.thresholds, abs=1e-4)


def test_the_evaluation_measures_unknown_sounds(
    model: ModelFolder, spectrogram_folder: Path, dataset: Path, tiny: PipelineSettings, tmp_path: Path
) -> None:
    evaluate(model.path, spectrogram_folder, dataset, tiny.evaluate, tmp_path / "evaluation")
    folder = EvaluationFolder(tmp_path / "evaluation")
    metrics, classifier = folder.metrics(), model.classifier()
    assert metrics.clips == 8 and classifier.thresholds is not None
    table = folder.predictions().table
    unknown = table["confidence"] < table["predicted"].map(classifier.thresholds)
    assert metrics.unknown_share == pytest.approx(unknown.mean())
    assert {"left_out_auroc", "left_out_fpr95", "left_out_unknown"} <= metrics.numbers().keys()
    page = folder.report.read_text()
    assert "Trained without engine, rain." in page and "fitted on fold 4" in page
    text = card.render("audiocnn", "run", classifier, DatasetFolder(dataset).record(), metrics)
    assert "fold 4, on which" in text and "Clips of the classes engine, rain were left out." in text


def test_a_model_without_calibration_says_so(evaluation_folder: Path) -> None:
    metrics = EvaluationFolder(evaluation_folder).metrics()
    assert metrics.unknown_share is None and metrics.left_out_auroc is None
    assert "The model is not calibrated" in (evaluation_folder / "report.html").read_text()


@pytest.mark.parametrize(
    ("known", "other", "auroc", "fpr95"),
    [
        ([0.8, 0.9], [0.1, 0.2], 1.0, 0.0),
        ([0.1, 0.2], [0.8, 0.9], 0.0, 1.0),
        ([0.5, 0.5], [0.5, 0.5], 0.5, 1.0),
        ([0.6, 0.9], [0.5, 0.7], 0.75, 0.5),
    ],
)
def test_novelty_of_known_cases(known: list[float], other: list[float], auroc: float, fpr95: float) -> None:
    found = measure_novelty(np.array(known), np.array(other))
    assert (found.auroc, found.fpr95) == (auroc, fpr95)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"calibration_fold": 2}, "train.calibration_fold: fold 2 is the test fold, and nothing may be fitted on it"),
        ({"calibration_fold": 5, "hold_out": (5,)}, "fold 5 is in train.hold_out, and nothing may be fitted on it"),
        ({"calibration_fold": 9}, "fold 9 does not exist"),
        ({"calibration_fold": 4, "hold_out": (1, 3, 5)}, "the folds 1, 3, 5, 4 leave no training fold"),
        ({"leave_out": ("wolf",)}, "train.leave_out: the data has no class 'wolf'"),
    ],
)
def test_a_fold_has_one_role(spectrogram_folder: Path, arguments: dict, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        split(read_clips(spectrogram_folder / "clips.csv"), 2, **arguments)


@pytest.mark.parametrize("changes", [{"calibration_fold": 2}, {"calibration_fold": 5, "hold_out": (5,)}])
def test_a_second_role_is_refused_before_anything_runs(tiny: PipelineSettings, changes: dict) -> None:
    train = tiny.train.replace(**changes)
    with pytest.raises(PlanError, match="nothing may be fitted on it"):
        check_fold(train, "demo")
    with pytest.raises(PlanError, match="nothing may be fitted on it"):
        check_request(train, PlanRequest(folds=(2,), seeds=(0,), trials={"unchanged": {}}))


def test_a_missing_calibration_fold_is_named(tiny: PipelineSettings) -> None:
    with pytest.raises(PlanError, match=r"train\.calibration_fold: demo has no fold 9; its folds are 1, 2, 3, 4, 5"):
        check_fold(tiny.train.replace(calibration_fold=9), "demo")


@pytest.mark.parametrize(
    ("assignments", "expected"),
    [([], 4), (["train.fold=4"], 5), (["train.hold_out=[4]"], 3), (["train.calibration_fold=null"], None)],
)
def test_the_demo_is_calibrated(assignments: list[str], expected: int | None) -> None:
    assert demo_settings(ROOT / "params.yaml", assignments, None).train.calibration_fold == expected
