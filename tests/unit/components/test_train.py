"""The step train: a whole model folder, its MLflow run, and nothing half-done."""

from pathlib import Path

import mlflow
import pandas as pd
import pytest
from helpers.project import read_json
from helpers.train import start_training

from audiocnn.classifier import Classifier
from audiocnn.data.clips import DatasetError
from audiocnn.training.loop import TrainingError
from components.train import report, step
from pipeline.settings import PipelineSettings


def mlflow_run(folder: Path) -> mlflow.entities.Run:
    return mlflow.MlflowClient().get_run(read_json(folder / "run.json")["run_id"])


def artifacts(run: mlflow.entities.Run, folder: str) -> set[str]:
    return {item.path for item in mlflow.MlflowClient().list_artifacts(run.info.run_id, folder)}


def test_the_model_folder_is_whole_and_says_where_it_comes_from(
    model_folder: Path, spectrogram_folder: Path, tiny: PipelineSettings
) -> None:
    classifier = Classifier.load(model_folder)
    provenance = classifier.provenance
    digest = read_json(spectrogram_folder / "spec.json")["dataset"]["digest"]
    assert (provenance["dataset"]["digest"], provenance["dataset"]["test_fold"]) == (digest, 2)
    assert provenance["train"]["epochs"] == tiny.train.epochs and len(classifier.classes) == 10
    assert len(provenance["git_revision"].removesuffix("-dirty")) == 40
    assert {path.name for path in (model_folder / "curves").iterdir()} == {"loss.png", "accuracy.png", "lr.png"}
    assert pd.read_csv(model_folder / "history.csv")["epoch"].tolist() == [1, 2]


def test_the_split_is_written_down_clip_by_clip(model_folder: Path) -> None:
    clips = pd.read_csv(model_folder / "clips.csv")
    assert (clips["split"] == "test").equals(clips["fold"] == 2)
    assert len(clips) == 50 and clips["md5"].is_unique


def test_mlflow_has_params_curves_lineage_and_revision(model_folder: Path, evaluation_folder: Path) -> None:
    run = mlflow_run(model_folder)
    assert run.info.status == "FINISHED"
    assert run.data.params["train.epochs"] == "2" and run.data.params["spectrograms.n_mels"] == "128"
    for name in ("train_loss", "test_loss", "train_accuracy", "test_accuracy", "lr"):
        points = mlflow.MlflowClient().get_metric_history(run.info.run_id, name)
        assert [point.step for point in points] == [1, 2], name
    assert artifacts(run, "curves") == {"curves/loss.png", "curves/accuracy.png", "curves/lr.png"}
    assert run.data.tags["git_revision"] and run.data.tags["dataset_digest"]
    (dataset,) = run.inputs.dataset_inputs
    assert run.data.tags["dataset_digest"].startswith(dataset.dataset.digest)
    assert any(name.startswith("system/") for name in run.data.metrics)


def test_a_killed_step_resumes_in_the_same_mlflow_run(
    spectrogram_folder: Path, tiny: PipelineSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tiny.train.replace(epochs=3, checkpoint_minutes=0.0)
    original, begun = step.plots.curves, []

    def kill(history: pd.DataFrame, tested: str) -> None:
        raise KeyboardInterrupt

    start = step.tracking.start_run
    monkeypatch.setattr(step.tracking, "start_run", lambda **named: begun.append(start(**named)) or begun[-1])
    monkeypatch.setattr(step.plots, "curves", kill)
    with pytest.raises(KeyboardInterrupt):
        step.train(spectrogram_folder, settings, tmp_path / "model", str(tmp_path / "checkpoints"))
    assert not (tmp_path / "model").exists() and not list(tmp_path.glob(".model*"))
    monkeypatch.setattr(step.plots, "curves", original)
    step.train(spectrogram_folder, settings, tmp_path / "model", str(tmp_path / "checkpoints"))
    assert len(begun) == 1 and mlflow_run(tmp_path / "model").info.run_id == begun[0].run_id
    assert mlflow_run(tmp_path / "model").info.status == "FINISHED"
    assert not list((tmp_path / "checkpoints").iterdir())


def test_a_diverged_training_marks_its_run_failed_and_leaves_no_model(
    spectrogram_folder: Path, tiny: PipelineSettings, tmp_path: Path
) -> None:
    settings = tiny.train.replace(max_lr=1e30, lr=1e30)
    with pytest.raises(TrainingError, match="max_lr"):
        step.train(spectrogram_folder, settings, tmp_path / "model", str(tmp_path / "checkpoints"))
    assert not (tmp_path / "model").exists()
    (latest,) = mlflow.search_runs(max_results=1, search_all_experiments=True, output_format="list")
    assert latest.info.status == "FAILED"


def test_a_fold_that_is_not_there_is_refused_before_a_run_begins(
    spectrogram_folder: Path, tiny: PipelineSettings, tmp_path: Path
) -> None:
    with pytest.raises(DatasetError, match="no fold 9"):
        step.train(spectrogram_folder, tiny.train.replace(fold=9), tmp_path / "model", str(tmp_path / "c"))
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--parent", "doesnotexist"], "has no run 'doesnotexist' to stand under, or it was deleted; name one that is"),
        (["--trial", "a"], "--trial tells trainings under one MLflow run apart; give that run's id as --parent too"),
    ],
)
def test_a_training_that_stands_under_nothing_is_refused_before_it_begins(
    options: list[str], words: str, spectrogram_folder: Path, tmp_path: Path
) -> None:
    process = start_training(spectrogram_folder, tmp_path, *options)
    said = process.communicate()[0]
    assert process.returncode == 2 and words in said and "Traceback" not in said and "epoch" not in said
    assert not (tmp_path / "model").exists()


def test_the_curves_page_stands_alone_and_calls_the_fold_what_it_is(model_folder: Path, tiny: PipelineSettings) -> None:
    page = report.curves_page(model_folder, tiny.train)
    assert page.count("data:image/png;base64,") == 3 and "http" not in page
    assert "the test fold chose nothing" in page
    page = report.curves_page(model_folder, tiny.train.replace(hold_out=(5,)))
    assert "validation fold" in page and "fold 5 is held out" in page and "test fold" not in page
