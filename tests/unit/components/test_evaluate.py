"""The step evaluate: its files agree with each other, and models of other data are refused."""

import json
import shutil
import time
from pathlib import Path

import mlflow
import pandas as pd
import pytest
import torch
from helpers.project import read_json

from audiocnn import audio, latency
from audiocnn.classifier import ModelError
from audiocnn.device import DeviceError
from components.evaluate.step import evaluate
from mlops.artifacts import EvaluationFolder, ModelFolder, Predictions
from pipeline.settings import PipelineSettings


def test_metrics_predictions_and_confusion_agree(evaluation_folder: Path, model_folder: Path) -> None:
    metrics = EvaluationFolder(evaluation_folder).metrics()
    predictions = EvaluationFolder(evaluation_folder).predictions()
    confusion = pd.read_csv(evaluation_folder / "confusion.csv")
    assert len(predictions.table) == metrics.clips == confusion.to_numpy().sum() == 10
    assert predictions.table["correct"].mean() == pytest.approx(metrics.accuracy)
    assert (predictions.table["fold"] == 2).all()
    probabilities = predictions.probabilities()
    assert probabilities.sum(axis=1) == pytest.approx(1, abs=1e-4)
    best = [predictions.classes[index] for index in probabilities.argmax(axis=1)]
    assert best == predictions.table["predicted"].tolist()
    assert metrics.accuracy_low <= metrics.accuracy <= metrics.accuracy_high
    assert EvaluationFolder(evaluation_folder).weights_sha256() == ModelFolder(model_folder).classifier().weights_sha256
    assert metrics.latency_ms > 0
    # The training loop computes the test metrics of the last epoch with other code.
    last = ModelFolder(model_folder).history().iloc[-1]
    assert last["test_accuracy"] == pytest.approx(metrics.accuracy)
    assert last["test_loss"] == pytest.approx(metrics.loss, rel=1e-3)


def test_latency_includes_decoding(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = ModelFolder(model_folder).classifier()
    decode = audio.decode
    monkeypatch.setattr(audio, "decode", lambda content: time.sleep(0.5) or decode(content))
    monkeypatch.setattr(latency, "RUNS", 1)
    assert latency.latency_ms(classifier) > 500


def test_a_gpu_without_enough_memory_is_reported(
    spectrogram_folder: Path,
    dataset: Path,
    model_folder: Path,
    tiny: PipelineSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def predict(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has ...")

    monkeypatch.setattr(Predictions, "predict", predict)
    with pytest.raises(DeviceError, match="; decrease evaluate"):
        evaluate(model_folder, spectrogram_folder, dataset, tiny.evaluate, tmp_path / "evaluation")
    assert not (tmp_path / "evaluation").exists()


def test_the_report_is_self_contained(evaluation_folder: Path) -> None:
    page = (evaluation_folder / "report.html").read_text()
    accuracy = EvaluationFolder(evaluation_folder).metrics().accuracy
    assert f"{100 * accuracy:.1f} % of 10 unseen clips classified correctly" in page
    assert "http://" not in page and "https://" not in page and "<script" not in page


def test_names_are_escaped_in_the_report(
    spectrogram_folder: Path, dataset: Path, model_folder: Path, tiny: PipelineSettings, tmp_path: Path
) -> None:
    model = shutil.copytree(model_folder, tmp_path / "model")
    metadata = read_json(model / "model.json")
    metadata["dataset"]["source"] = "<script>alert(1)</script>"
    (model / "model.json").write_text(json.dumps(metadata))
    evaluate(model, spectrogram_folder, dataset, tiny.evaluate, tmp_path / "evaluation")
    assert "<script>" not in (tmp_path / "evaluation" / "report.html").read_text()


def test_results_are_added_to_the_run_of_the_training(evaluation_folder: Path, model_folder: Path) -> None:
    client = mlflow.MlflowClient()
    run = client.get_run(ModelFolder(model_folder).run().run_id)
    metrics = EvaluationFolder(evaluation_folder).metrics()
    assert run.data.metrics["test.accuracy"] == pytest.approx(metrics.accuracy)
    names = {Path(item.path).name for item in client.list_artifacts(run.info.run_id, "evaluation")}
    assert {"confusion.png", "report.html", "predictions.csv", "classes.json"} <= names
    mlflow.set_experiment("audiocnn")  # load_table only looks in the current experiment
    table = mlflow.load_table("evaluation/classes.json", run_ids=[run.info.run_id])
    assert len(table) == 10 and {"class", "recall", "precision", "f1"} <= set(table.columns)


def test_a_model_of_another_data_set_is_refused(
    spectrogram_folder: Path, dataset: Path, model_folder: Path, tiny: PipelineSettings, tmp_path: Path
) -> None:
    other = shutil.copytree(spectrogram_folder, tmp_path / "spectrograms")
    spec = read_json(other / "spec.json")
    spec["dataset"]["digest"] = "0" * 64
    (other / "spec.json").write_text(json.dumps(spec))
    with pytest.raises(ModelError, match="was trained on data set"):
        evaluate(model_folder, other, dataset, tiny.evaluate, tmp_path / "evaluation")
    assert not (tmp_path / "evaluation").exists()


def test_a_model_of_another_front_end_is_refused(
    dataset: Path, model_folder: Path, tiny: PipelineSettings, tmp_path: Path
) -> None:
    from components.spectrograms.step import spectrograms

    other = tiny.spectrograms.replace(f_min=30.0)
    spectrograms(dataset, other, tmp_path / "spectrograms", str(tmp_path / "cache"))
    with pytest.raises(ModelError, match="different front-end settings"):
        evaluate(model_folder, tmp_path / "spectrograms", dataset, tiny.evaluate, tmp_path / "evaluation")


def test_audio_of_another_data_set_is_refused(
    spectrogram_folder: Path, dataset: Path, model_folder: Path, tiny: PipelineSettings, tmp_path: Path
) -> None:
    other = shutil.copytree(dataset, tmp_path / "dataset")
    record = read_json(other / "dataset.json")
    record["digest"] = "0" * 64
    (other / "dataset.json").write_text(json.dumps(record))
    with pytest.raises(ModelError, match=r"dataset is data set 000000000000, .* use the folder that they were made of"):
        evaluate(model_folder, spectrogram_folder, other, tiny.evaluate, tmp_path / "evaluation")
    assert not (tmp_path / "evaluation").exists()
