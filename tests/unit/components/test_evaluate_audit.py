"""The audit fold: its accuracy is measured, and no model is selected by it."""

import json
import shutil
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from helpers.project import ROOT, read_json

from audiocnn.classifier import ModelError
from audiocnn.data.spectrogram_set import SpectrogramSet
from audiocnn.strict_model import SettingsError
from components.evaluate.step import evaluate
from components.register.step import register
from mlops import tracking
from mlops.artifacts import EvaluationFolder, ModelFolder
from mlops.register_settings import RegisterSettings
from mlops.tracking.champion import approve
from pipeline.cli.status import collect, render
from pipeline.settings import PipelineSettings, load


@pytest.fixture
def held_out(model_folder: Path, tmp_path: Path) -> Path:
    """Return a model that says that fold 1 was held out of its training."""
    model = shutil.copytree(model_folder, tmp_path / "model")
    metadata = read_json(model / "model.json")
    metadata["train"]["hold_out"] = [1]
    (model / "model.json").write_text(json.dumps(metadata))
    return model


def test_the_accuracy_is_reported_on_card_and_status_and_is_no_metric(
    held_out: Path, spectrogram_folder: Path, dataset: Path, tiny: PipelineSettings, tmp_path: Path
) -> None:
    settings = tiny.replace(
        evaluate=tiny.evaluate.replace(audit_fold=1),
        train=tiny.train.replace(hold_out=(1,)),
        register=RegisterSettings(name="audited"),
    )
    evaluate(held_out, spectrogram_folder, dataset, settings.evaluate, tmp_path / "evaluation")
    folder = EvaluationFolder(tmp_path / "evaluation")
    record, data = folder.audit(), SpectrogramSet.open(spectrogram_folder)
    rows = np.flatnonzero(data.clips["fold"] == 1)
    classifier = ModelFolder(held_out).classifier()
    predicted = classifier.classify_spectrograms(torch.from_numpy(data.spectrograms[rows]).float()).argmax(dim=1)
    assert record is not None and (record.fold, record.clips) == (1, len(rows))
    assert record.accuracy == pytest.approx((predicted.numpy() == data.labels[rows]).mean())
    assert 1 not in set(folder.predictions().table["fold"]), "the gate reads these"
    run = mlflow.MlflowClient().get_run(ModelFolder(held_out).run().run_id)
    assert not [name for name in run.data.metrics if "audit" in name]

    register(held_out, folder.path, dataset, settings.register, tmp_path / "registration")
    card = tracking.connect().client.get_model_version("audited", "1").description
    assert f"selected by: {record.summary()}" in card and "of audit fold 1" in card
    assert record.summary() not in render(collect(settings)), "it is shown of the champion only"
    approve("audited", 1, because="a test")
    assert f"accuracy {record.summary()}" in render(collect(settings))


def test_a_fold_that_trained_the_model_is_refused(
    model_folder: Path, spectrogram_folder: Path, dataset: Path, tiny: PipelineSettings, tmp_path: Path
) -> None:
    settings = tiny.evaluate.replace(audit_fold=1)
    with pytest.raises(ModelError, match=r"fold 1 was not held out .* train it with train\.hold_out=\[1\]"):
        evaluate(model_folder, spectrogram_folder, dataset, settings, tmp_path / "evaluation")
    assert not (tmp_path / "evaluation").exists()


def test_settings_that_train_on_the_audit_fold_are_refused() -> None:
    params = ROOT / "params.yaml"
    with pytest.raises(SettingsError, match=r"evaluate\.audit_fold: fold 4 has to be held out"):
        load(params, {"evaluate": {"audit_fold": 4}})
    assert load(params, {"evaluate": {"audit_fold": 4}, "train": {"hold_out": [4]}}).evaluate.audit_fold == 4
