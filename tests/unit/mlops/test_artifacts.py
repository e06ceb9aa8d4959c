"""Artifact folders: what is written is read back, and invalid files are refused with the step to run again."""

import json
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers import registry as make
from hypothesis import given, settings
from hypothesis import strategies as st

from audiocnn.classifier import Classifier
from audiocnn.data.clips import CLIP_COLUMNS
from mlops.artifacts import (
    ArtifactError,
    DatasetFolder,
    EvaluationFolder,
    Metrics,
    ModelFolder,
    Predictions,
    RegistrationFolder,
    RunRecord,
    TrainingRequest,
    VersionRecord,
    parse_plan,
    read_plan,
    write_plan,
)
from pipeline.settings import PipelineSettings

METRICS: dict[str, Any] = {
    "clips": 4,
    "accuracy": 0.5,
    "accuracy_low": 0.15,
    "accuracy_high": 0.85,
    "balanced_accuracy": 0.5,
    "macro_f1": 0.4,
    "top3_accuracy": 0.9,
    "min_class_recall": 0.0,
    "loss": 1.25,
    "brier_score": 0.6,
    "calibration_error": 0.1,
    "confidence": 0.95,
    "latency_ms": 12.0,
}


def clips(names: list[str], categories: list[str]) -> pd.DataFrame:
    rows = [
        (name, 1, 0, category, name, "A", f"{number:032x}", f"{number:032x}", 8000, 1, 4000)
        for number, (name, category) in enumerate(zip(names, categories, strict=True))
    ]
    return pd.DataFrame(rows, columns=list(CLIP_COLUMNS))


def write_metrics(folder: Path, **changes: Any) -> EvaluationFolder:
    values = {key: value for key, value in (METRICS | changes).items() if value is not None}
    folder.mkdir(exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps(values))
    return EvaluationFolder(folder)


def test_dataset_round_trip_keeps_text_columns(tmp_path: Path) -> None:
    table = clips(["00123", "nan"], ["none", "dog"])
    with DatasetFolder.create(tmp_path / "dataset") as folder:
        written = folder.write_clips(table, "demo", "demo", ["b.wav", "a.wav"])
    folder = DatasetFolder(tmp_path / "dataset")
    assert folder.record() == written and written.quarantined == ("a.wav", "b.wav") and written.classes == 2
    pd.testing.assert_frame_equal(folder.clips(), table)


def test_model_round_trip_keeps_run_split_and_history(model_folder: Path, tmp_path: Path) -> None:
    classifier = Classifier.load(model_folder)
    table = clips(["0.wav", "1.wav", "2.wav", "00"], ["dog"] * 4)
    history = ModelFolder(model_folder).history()
    history.loc[0, "test_loss"] = np.nan
    with ModelFolder.create(tmp_path / "model") as folder:
        folder.write(classifier, history, table, ([0, 3], [2]), RunRecord(run_id="1", checkpoint="c"))
    folder = ModelFolder(tmp_path / "model")
    assert folder.run() == RunRecord(run_id="1", checkpoint="c")
    assert folder.splits()["split"].tolist() == ["train", "held out", "test", "train"]
    assert folder.test_clips() == {"2.wav"} and folder.training_clips() == {f"{0:032x}", f"{3:032x}"}
    pd.testing.assert_frame_equal(folder.history(), history)
    assert folder.classifier().weights_sha256 == classifier.weights_sha256


@given(st.integers(0, 2**32 - 1), st.integers(2, 5), st.integers(1, 8))
@settings(max_examples=30)
def test_predictions_survive_the_six_digits_of_the_file(seed: int, n_classes: int, n_clips: int) -> None:
    import tempfile

    rng = np.random.default_rng(seed)
    names = ["none", "007", "", "nan", "a,b"][:n_classes]
    probabilities = rng.dirichlet(np.full(n_classes, 1e4 if seed % 2 else 1), n_clips)
    table = clips(
        [f"{number}.wav" for number in range(n_clips)], [names[i] for i in rng.integers(0, n_classes, n_clips)]
    )
    written = Predictions.of(table, probabilities, names)
    with tempfile.TemporaryDirectory() as scratch:
        written.write(Path(scratch, "predictions.csv"))
        read = Predictions.read(Path(scratch, "predictions.csv"), "evaluate")
    assert read.classes == tuple(names) and read.labels().tolist() == written.labels().tolist()
    assert read.table["predicted"].tolist() == written.table["predicted"].tolist()
    np.testing.assert_allclose(read.probabilities(), probabilities, atol=1e-6)
    predicted = read.probabilities().argmax(axis=1)
    assert [names[index] for index in predicted] == read.table["predicted"].tolist()
    assert (read.table["correct"] == (predicted == read.labels())).all()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"accuracy": float("nan")}, "accuracy: should be a finite number"),
        ({"loss": float("inf")}, "loss: should be a finite number"),
        ({"latency_ms": None}, "latency_ms: is missing"),
        ({"accuracy": 1.5}, "accuracy: should be less than or equal to 1"),
        ({"accuracy": "high"}, "accuracy: "),
        ({"pooled": 1}, "pooled: unknown key"),
    ],
)
def test_invalid_metrics_are_refused(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    folder = write_metrics(tmp_path / "evaluation", **changes)
    with pytest.raises(ArtifactError, match=words) as raised:
        folder.metrics()
    text = str(raised.value)
    assert text.startswith(str(tmp_path / "evaluation" / "metrics.json"))
    assert text.endswith("run the step evaluate again") and "\n" not in text


def test_nan_cannot_be_written_into_a_record() -> None:
    with pytest.raises(ValueError, match="finite"):
        Metrics(**{**METRICS, "loss": float("nan")})


@pytest.mark.parametrize("content", [None, "", "{", "[]", "\x00", '{"run_id": ""}', '{"run_id": 7}'])
def test_an_unreadable_record_is_one_sentence(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(ArtifactError, match=r"run\.json: .*run the step train") as raised:
        ModelFolder(tmp_path).run()
    assert "\n" not in str(raised.value)


def test_predictions_with_unknown_classes_or_gaps_are_refused(tmp_path: Path) -> None:
    table = Predictions.of(clips(["0.wav"], ["dog"]), np.array([[0.9, 0.1]]), ["dog", "cat"]).table
    path = tmp_path / "predictions.csv"
    for broken, words in (
        (table.rename(columns={"p:dog": "p:cow"}), "no probabilities of the class 'dog'"),
        (table.assign(**{"p:cat": np.nan}), "missing or not finite"),
        (table.assign(**{"p:cat": np.inf}), "missing or not finite"),
        (table.drop(columns="correct"), "column correct is missing"),
        (table.assign(correct="yes"), "cannot be read"),
    ):
        broken.to_csv(path, index=False)
        with pytest.raises(ArtifactError, match=words):
            EvaluationFolder(tmp_path).predictions()


def test_plan_round_trip_and_invalid_plans(tiny: PipelineSettings, tmp_path: Path) -> None:
    plan = [TrainingRequest(recipe="demo", settings=tiny.train, trial="a", parent_run="1")]
    write_plan(tmp_path / "plan.json", plan)
    assert read_plan(tmp_path / "plan.json") == plan
    entry = plan[0].to_dict()
    for values, words in (
        ([], "at least one training"),
        ({"recipe": "demo"}, "expected a list"),
        ([entry, {**entry, "settings": {**entry["settings"], "epochs": -1}}], "training 2: settings.epochs: "),
    ):
        with pytest.raises(ArtifactError, match=words):
            parse_plan(values, "plan.json")


def test_a_failed_step_leaves_no_folder_and_keeps_the_old_one(tmp_path: Path) -> None:
    record = VersionRecord(name="audiocnn", version=1, run_id="1")
    with pytest.raises(RuntimeError), RegistrationFolder.create(tmp_path / "registration") as folder:
        folder.write(record, "card")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with RegistrationFolder.create(tmp_path / "registration") as folder:
        folder.write(record, "card")
    with pytest.raises(RuntimeError), RegistrationFolder.create(tmp_path / "registration") as folder:
        raise RuntimeError
    assert RegistrationFolder(tmp_path / "registration").record() == record


def test_model_folders_of_the_previous_release_are_read(tmp_path: Path) -> None:
    data = make.write_data(tmp_path)
    folder = ModelFolder(make.write_model(tmp_path / "model", data))
    card = json.loads((folder.path / "model.json").read_text())
    card["format"], card["train"] = 2, {**card["train"], "recipe": "demo"}
    card.pop("recipe", None)
    (folder.path / "model.json").write_text(json.dumps(card))
    assert folder.classifier().provenance["recipe"] == "demo"
    assert len(folder.training_clips()) == 20


def test_class_names_that_pandas_could_convert_stay_names(tmp_path: Path) -> None:
    names = ["NA", "null", "None", "nan"]
    rows = "".join(f"{name},0.5,0.5,0.5,2,{name}\n" for name in names)
    (tmp_path / "classes.csv").write_text(f"class,precision,recall,f1,clips,mistaken_for\n{rows}")
    table = EvaluationFolder(tmp_path).classes()
    assert table["class"].tolist() == table["mistaken_for"].tolist() == names
    assert pd.read_json(StringIO(table.to_json(orient="split", index=False)), orient="split")["class"].tolist() == names
