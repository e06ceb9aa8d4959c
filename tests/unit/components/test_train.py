"""The step train: the model folder, its MLflow run, and errors."""

import json
from pathlib import Path

import mlflow
import pandas as pd
import pytest
import torch
from helpers.project import read_json
from helpers.train import Train, start_training

from audiocnn.classifier import Classifier
from audiocnn.config import TrainSettings
from audiocnn.data.clips import DatasetError
from audiocnn.training.distributed import SINGLE_PROCESS
from audiocnn.training.loop import TrainingError
from components.train import report, step
from components.train.environment import training_environment
from mlops.artifacts import ModelFolder, TrainingRequest
from mlops.image import IMAGE_VARIABLE
from pipeline.settings import PipelineSettings


def mlflow_run(folder: Path) -> mlflow.entities.Run:
    return mlflow.MlflowClient().get_run(ModelFolder(folder).run().run_id)


def artifacts(run: mlflow.entities.Run, folder: str) -> set[str]:
    return {item.path for item in mlflow.MlflowClient().list_artifacts(run.info.run_id, folder)}


def request(settings: TrainSettings) -> TrainingRequest:
    return TrainingRequest(recipe="demo", settings=settings)


def test_model_folder_is_complete_and_has_provenance(
    model_folder: Path, spectrogram_folder: Path, tiny: PipelineSettings
) -> None:
    classifier = Classifier.load(model_folder)
    provenance = classifier.provenance
    digest = read_json(spectrogram_folder / "spec.json")["dataset"]["digest"]
    assert (provenance["dataset"]["digest"], provenance["dataset"]["test_fold"]) == (digest, 2)
    assert provenance["train"] == tiny.train.to_dict() and provenance["recipe"] == "demo"
    assert len(classifier.classes) == 10
    assert len(provenance["git_revision"].removesuffix("-dirty")) == 40
    assert {path.name for path in (model_folder / "curves").iterdir()} == {"loss.png", "accuracy.png", "lr.png"}
    assert ModelFolder(model_folder).history()["epoch"].tolist() == [1, 2]


def test_what_auto_resolved_to_is_recorded(model_folder: Path, tiny: PipelineSettings) -> None:
    assert tiny.train.precision == "auto"
    environment = Classifier.load(model_folder).provenance["environment"]
    assert environment["device"] == "cpu" and environment["precision"] in ("fp32", "bf16")
    assert environment["threads"] == torch.get_num_threads() and environment["processes"] == 1
    assert environment["cuda_graph"] is False
    assert environment["hardware"] and environment["image"] == "none"
    params = mlflow_run(model_folder).data.params
    assert {name: params[f"environment.{name}"] for name in environment} == {k: str(v) for k, v in environment.items()}


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_the_recorded_precision_is_the_one_computed_in(
    precision: str, tiny: PipelineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audiocnn.training.forward.has_fast_bf16", lambda device: precision == "bf16")
    monkeypatch.setenv(IMAGE_VARIABLE, "registry.example.org/audiocnn:7")
    recorded = training_environment(tiny.train, torch.device("cpu"), SINGLE_PROCESS, cuda_graph=False)
    assert (recorded["precision"], recorded["image"]) == (precision, "registry.example.org/audiocnn:7")


def test_clips_csv_has_the_split_of_every_clip(model_folder: Path) -> None:
    clips = ModelFolder(model_folder).splits()
    assert (clips["split"] == "test").equals(clips["fold"] == 2)
    assert len(clips) == 50 and clips["md5"].is_unique


def test_mlflow_run_has_params_metrics_curves_and_lineage(model_folder: Path, evaluation_folder: Path) -> None:
    run = mlflow_run(model_folder)
    assert run.info.status == "FINISHED"
    assert run.data.params["recipe"] == "demo" and run.data.params["train.epochs"] == "2"
    assert run.data.params["spectrograms.n_mels"] == "64"
    for name in ("train_loss", "test_loss", "train_accuracy", "test_accuracy", "lr"):
        points = mlflow.MlflowClient().get_metric_history(run.info.run_id, name)
        assert [point.step for point in points] == [1, 2], name
    assert artifacts(run, "curves") == {"curves/loss.png", "curves/accuracy.png", "curves/lr.png"}
    assert run.data.tags["git_revision"] and run.data.tags["dataset_digest"]
    (dataset,) = run.inputs.dataset_inputs
    assert run.data.tags["dataset_digest"].startswith(dataset.dataset.digest)
    assert any(name.startswith("system/") for name in run.data.metrics)


def test_step_killed_after_the_training_resumes_in_the_same_run(
    spectrogram_folder: Path, tiny: PipelineSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tiny.train.replace(epochs=3, checkpoint_minutes=0.0)
    original, started = step.plots.curves, []

    def kill(history: pd.DataFrame, evaluated_on: str) -> None:
        raise KeyboardInterrupt

    start = step.tracking.start_run
    monkeypatch.setattr(step.tracking, "start_run", lambda **named: started.append(start(**named)) or started[-1])
    monkeypatch.setattr(step.plots, "curves", kill)
    with pytest.raises(KeyboardInterrupt):
        step.train(spectrogram_folder, request(settings), tmp_path / "model", str(tmp_path / "checkpoints"))
    assert not (tmp_path / "model").exists() and not list(tmp_path.glob(".model*"))
    monkeypatch.setattr(step.plots, "curves", original)
    step.train(spectrogram_folder, request(settings), tmp_path / "model", str(tmp_path / "checkpoints"))
    assert len(started) == 1 and mlflow_run(tmp_path / "model").info.run_id == started[0].run_id
    assert mlflow_run(tmp_path / "model").info.status == "FINISHED"
    assert not list((tmp_path / "checkpoints").iterdir())


def test_diverged_training_fails_its_run_and_writes_no_model(
    spectrogram_folder: Path, tiny: PipelineSettings, tmp_path: Path
) -> None:
    settings = tiny.train.replace(max_lr=1e30, lr=1e30)
    with pytest.raises(TrainingError, match="max_lr"):
        step.train(spectrogram_folder, request(settings), tmp_path / "model", str(tmp_path / "checkpoints"))
    assert not (tmp_path / "model").exists()
    (latest,) = mlflow.search_runs(max_results=1, search_all_experiments=True, output_format="list")
    assert latest.info.status == "FAILED"


def test_missing_fold_is_refused_before_a_run_starts(
    spectrogram_folder: Path, tiny: PipelineSettings, tmp_path: Path
) -> None:
    with pytest.raises(DatasetError, match="fold 9 does not exist"):
        step.train(spectrogram_folder, request(tiny.train.replace(fold=9)), tmp_path / "model", str(tmp_path / "c"))
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parent_run": "doesnotexist"}, "run 'doesnotexist' does not exist"),
        ({"recipe": 1}, "request.json: recipe: should be a valid string, found 1"),
        ({"trials": "a"}, "request.json: trials: unknown key"),
        (None, "request.json: not valid JSON"),
    ],
    ids=["parent", "type", "key", "syntax"],
)
def test_invalid_request_is_refused_before_the_training(
    change: dict | None, message: str, spectrogram_folder: Path, tiny: PipelineSettings, tmp_path: Path
) -> None:
    file = tmp_path / "request.json"
    file.write_text("{" if change is None else json.dumps(request(tiny.train).to_dict() | change))
    process = start_training(spectrogram_folder, tmp_path, "--request", str(file))
    output = process.communicate()[0]
    assert process.returncode == 2 and message in output and "Traceback" not in output and "epoch" not in output
    assert not (tmp_path / "model").exists()


def test_on_epoch_is_called_after_each_epoch(train: Train) -> None:
    epochs = []
    model = train(on_epoch=epochs.append)
    history = ModelFolder(model).history()
    assert [epoch.epoch for epoch in epochs] == [1, 2, 3]
    assert [epoch.train_loss for epoch in epochs] == pytest.approx(history["train_loss"])


def test_curves_page_is_self_contained_and_names_the_fold_role(model_folder: Path, tiny: PipelineSettings) -> None:
    page = report.curves_page(model_folder, tiny.train)
    assert page.count("data:image/png;base64,") == 3 and "http" not in page
    assert "nothing was selected on the test fold" in page
    page = report.curves_page(model_folder, tiny.train.replace(hold_out=(5,)))
    assert "validation fold" in page and "fold 5 is held out" in page and "test fold" not in page
