"""The step evaluate: honest figures on the unseen fold, and a page that shows them."""

import json
import shutil
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from helpers.project import read_json

from audiocnn.classifier import ModelError
from components.evaluate.step import evaluate
from pipeline.settings import PipelineSettings


def test_the_files_agree_with_each_other(evaluation_folder: Path, model_folder: Path) -> None:
    metrics = read_json(evaluation_folder / "metrics.json")
    predictions = pd.read_csv(evaluation_folder / "predictions.csv")
    confusion = pd.read_csv(evaluation_folder / "confusion.csv")
    assert len(predictions) == metrics["clips"] == confusion.to_numpy().sum() == 10
    assert predictions["correct"].mean() == pytest.approx(metrics["accuracy"])
    assert (predictions["fold"] == 2).all()
    probabilities = predictions.filter(like="p:")
    assert probabilities.sum(axis=1).to_numpy() == pytest.approx(1, abs=1e-4)
    assert probabilities.idxmax(axis=1).str.removeprefix("p:").tolist() == predictions["predicted"].tolist()
    assert metrics["accuracy_low"] <= metrics["accuracy"] <= metrics["accuracy_high"]
    assert metrics["model_sha256"] == read_json(model_folder / "model.json")["weights_sha256"]
    assert metrics["latency_ms"] > 0
    # The last epoch's test figures were measured by the training loop itself, through other code.
    last = pd.read_csv(model_folder / "history.csv").iloc[-1]
    assert last["test_accuracy"] == pytest.approx(metrics["accuracy"])
    assert last["test_loss"] == pytest.approx(metrics["loss"], rel=1e-3)


def test_the_report_stands_alone_and_names_the_figures(evaluation_folder: Path) -> None:
    page = (evaluation_folder / "report.html").read_text()
    accuracy = read_json(evaluation_folder / "metrics.json")["accuracy"]
    assert f"{100 * accuracy:.1f} % of 10 unseen clips" in page
    assert "http://" not in page and "https://" not in page and "<script" not in page


def test_what_stands_in_the_data_is_escaped_in_the_report(
    spectrogram_folder: Path, model_folder: Path, tiny: PipelineSettings, tmp_path: Path
) -> None:
    model = shutil.copytree(model_folder, tmp_path / "model")
    card = read_json(model / "model.json")
    card["dataset"]["source"] = "<script>alert(1)</script>"
    (model / "model.json").write_text(json.dumps(card))
    evaluate(model, spectrogram_folder, tiny.evaluate, tmp_path / "evaluation")
    assert "<script>" not in (tmp_path / "evaluation" / "report.html").read_text()


def test_mlflow_gets_the_scores_the_table_and_the_pictures(evaluation_folder: Path, model_folder: Path) -> None:
    client = mlflow.MlflowClient()
    run = client.get_run(read_json(model_folder / "run.json")["run_id"])
    metrics = read_json(evaluation_folder / "metrics.json")
    assert run.data.metrics["test.accuracy"] == pytest.approx(metrics["accuracy"])
    names = {Path(item.path).name for item in client.list_artifacts(run.info.run_id, "evaluation")}
    assert {"confusion.png", "report.html", "predictions.csv", "classes.json"} <= names
    mlflow.set_experiment("audiocnn")  # load_table looks in the current one only
    table = mlflow.load_table("evaluation/classes.json", run_ids=[run.info.run_id])
    assert len(table) == 10 and {"class", "recall", "precision", "f1"} <= set(table.columns)


@pytest.mark.parametrize(("key", "value"), [("digest", "0" * 64)])
def test_a_model_of_other_data_is_refused_and_nothing_is_written(
    spectrogram_folder: Path, model_folder: Path, tiny: PipelineSettings, tmp_path: Path, key: str, value: str
) -> None:
    other = shutil.copytree(spectrogram_folder, tmp_path / "spectrograms")
    spec = read_json(other / "spec.json")
    spec["dataset"][key] = value
    (other / "spec.json").write_text(json.dumps(spec))
    with pytest.raises(ModelError, match="was trained on data set"):
        evaluate(model_folder, other, tiny.evaluate, tmp_path / "evaluation")
    assert not (tmp_path / "evaluation").exists()


def test_a_model_of_another_front_end_is_refused(
    dataset: Path, model_folder: Path, tiny: PipelineSettings, tmp_path: Path
) -> None:
    from components.spectrograms.step import spectrograms

    other = tiny.spectrograms.replace(f_min=30.0)
    spectrograms(dataset, other, tmp_path / "spectrograms", str(tmp_path / "cache"))
    with pytest.raises(ModelError, match="front-end settings"):
        evaluate(model_folder, tmp_path / "spectrograms", tiny.evaluate, tmp_path / "evaluation")
