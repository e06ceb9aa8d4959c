"""Groups of clips, changed clips and the worst clips of an evaluation."""

import base64
import re
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from helpers import registry as make
from scipy.stats import binomtest

from audiocnn import audio
from audiocnn.data.spectrogram_set import SpectrogramSet
from audiocnn.robustness import CHANGES
from components.evaluate.robustness import robustness_table
from components.evaluate.slices import slice_table
from components.evaluate.step import evaluate
from mlops.artifacts import DatasetFolder, EvaluationFolder, ModelFolder, Predictions
from pipeline.settings import PipelineSettings


def predictions_of(data: SpectrogramSet, wrong: np.ndarray) -> Predictions:
    """Return predictions of all clips that are wrong where `wrong` says."""
    probabilities = np.eye(len(data.classes))[(data.labels + wrong) % len(data.classes)]
    return Predictions.of(data.clips, probabilities, data.classes)


def test_slices_by_level_length_and_rate(spectrogram_folder: Path) -> None:
    data = SpectrogramSet.open(spectrogram_folder)
    settings, clips = data.settings, len(data.clips)
    longer = np.arange(clips) % 5 == 0
    data.clips["rate"] = np.where(longer, 44_100, settings.rate)
    data.clips["frames"] = np.where(longer, 44_100 * 6, settings.samples)
    level = [float((10 ** (values.astype(float) / 10)).mean()) for values in data.spectrograms]
    wrong = np.array(level) >= np.quantile(level, 0.75)
    table = slice_table(predictions_of(data, wrong), data, np.arange(clips), 0.95).set_index("group")
    assert set(table["property"]) == {"level", "length", "sample rate"}
    assert table["accuracy"]["quietest quarter"] == 1 and table["accuracy"]["loudest quarter"] < 0.1
    assert table["clips"]["longer than 5 s"] == table["clips"]["above 22,050 Hz"] == 10
    own = slice(None, None, 5)
    assert table["accuracy"]["longer than 5 s"] == pytest.approx(1 - wrong[own].mean())
    assert ((table["low"] <= table["accuracy"]) & (table["accuracy"] <= table["high"])).all()


def test_a_property_that_all_clips_share_has_no_rows(spectrogram_folder: Path) -> None:
    data = SpectrogramSet.open(spectrogram_folder)
    table = slice_table(predictions_of(data, np.zeros(len(data.clips), int)), data, np.arange(len(data.clips)), 0.95)
    assert "sample rate" not in set(table["property"])


def test_robustness_is_measured_on_the_changed_clips(
    spectrogram_folder: Path, dataset: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, classifier = SpectrogramSet.open(spectrogram_folder), ModelFolder(model_folder).classifier()
    for name in [*CHANGES][1:]:
        monkeypatch.delitem(CHANGES, name)
    monkeypatch.setitem(CHANGES, "none", lambda waveform, rate: waveform)
    probabilities = classifier.classify_spectrograms(_tensor(data)).numpy().astype(float)
    predictions = Predictions.of(data.clips, probabilities, data.classes)
    table = robustness_table(classifier, predictions, DatasetFolder(dataset).audio, 20, 0.95).set_index("change")
    chosen = predictions.table.groupby("category").head(2)  # 20 clips of ten classes
    assert (table["clips"] == 20).all() and len(table) == 3
    hits = int(chosen["correct"].sum())
    assert table["accuracy"]["unchanged"] == table["accuracy"]["none"] == hits / 20
    assert table["lost"]["none"] == table["gained"]["none"] == 0
    interval = binomtest(hits, 20).proportion_ci(0.95, "wilson")
    assert (table["low"]["none"], table["high"]["none"]) == pytest.approx((interval.low, interval.high), abs=0.05)
    assert robustness_table(classifier, predictions, Path("none"), 0, 0.95).empty


def _tensor(data: SpectrogramSet) -> torch.Tensor:
    return torch.from_numpy(data.spectrograms[:].astype(np.float32))


def test_worst_clips_can_be_listened_to(evaluation_folder: Path, model_folder: Path, dataset: Path) -> None:
    folder, classifier = EvaluationFolder(evaluation_folder), ModelFolder(model_folder).classifier()
    table = folder.predictions().table
    errors = table[table["correct"] == 0].sort_values("confidence", ascending=False)
    files = sorted(folder.worst_clips.iterdir())
    assert [file.stem.split("-", 1)[1] for file in files] == [Path(name).stem for name in errors["filename"]]
    assert files, "the network of two epochs makes errors"
    original = audio.load(dataset / "audio" / errors["filename"].iloc[0], classifier.settings)
    heard = audio.load(files[0], classifier.settings)
    assert np.corrcoef(original, heard)[0, 1] > 0.8
    page = folder.report.read_text()
    embedded = re.findall(r'<audio[^>]*src="data:audio/mpeg;base64,([^"]+)"', page)
    assert [base64.b64decode(content) for content in embedded] == [file.read_bytes() for file in files]
    run = ModelFolder(model_folder).run().run_id
    logged = mlflow.MlflowClient().list_artifacts(run, "evaluation/worst_clips")
    assert [Path(item.path).name for item in logged] == [file.name for file in files]


def test_a_perfect_model_has_no_worst_clips(tiny: PipelineSettings, tmp_path: Path) -> None:
    data = make.write_data(tmp_path, classes=("dog", "cat"), train_clips=4, test_clips=4)
    model = make.write_model(tmp_path / "model", data, classes=("dog", "cat"), answer=0)
    settings = tiny.evaluate.replace(worst_clips=0, robustness_clips=0)
    evaluate(model, data.spectrograms, data.dataset, settings, tmp_path / "evaluation")
    page = EvaluationFolder(tmp_path / "evaluation").report.read_text()
    assert "Robustness" not in page and "<audio" not in page
    assert list((tmp_path / "evaluation" / "worst_clips").iterdir()) == []
    assert pd.read_csv(tmp_path / "evaluation" / "robustness.csv").empty
