"""The model registry: registration, aliases, and downloads that are verified."""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from helpers import registry as make
from helpers.mlflow import recorded, start

from audiocnn.classifier import Classifier
from mlops import tracking


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> make.Data:
    return make.write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def model(data: make.Data, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make.write_model(tmp_path_factory.mktemp("model") / "model", data)


def register(model: Path, name: str) -> tracking.Version:
    classifier = Classifier.load(model)
    with start() as run:
        pass
    return tracking.register_model(
        run.run_id,
        model,
        name,
        classes=classifier.classes,
        example=make.noise(1),
        weights_sha256=classifier.weights_sha256,
        tags={"dataset": "noise"},
        metrics={"accuracy": 0.5},
    )


def test_version_has_run_tags_and_logged_model(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    search_path = list(sys.path)
    monkeypatch.setenv("MLFLOW_RUN_ID", "12345")  # of another run; only a Kubeflow task uses it
    version = register(model, "complete")
    assert sys.path == search_path
    client = tracking.connect().client
    found = client.get_model_version("complete", "1")
    run = client.get_run(version.run_id)
    assert found.tags == {"dataset": "noise"} and found.run_id == version.run_id
    assert tracking.recorded_weights(version) == Classifier.load(model).weights_sha256
    assert run.info.status == "FINISHED"  # registration does not start the run again
    (output,) = run.outputs.model_outputs
    logged = client.get_logged_model(output.model_id)
    assert found.source == f"models:/{logged.model_id}" and logged.experiment_id == run.info.experiment_id
    assert {metric.key: metric.value for metric in logged.metrics}["accuracy"] == 0.5
    assert json.loads(logged.tags["mlflow.modelVersions"]) == [{"name": "complete", "version": 1}]
    info = mlflow.models.get_model_info(found.source)
    assert info.signature is not None and info.saved_input_example_info is not None
    requirements = (make.stored_files(version).parents[1] / "requirements.txt").read_text().split()
    assert {line.partition("==")[0] for line in requirements} >= {"torch", "soundfile", "safetensors", "pydantic"}
    assert not list(make.stored_files(version).parents[1].rglob("*.pkl"))


def test_missing_entities_are_none_or_one_sentence(model: Path) -> None:
    assert tracking.version_by_alias("missing", "champion") is None
    assert tracking.model_tags("missing") == {}
    with pytest.raises(tracking.TrackingError, match="'missing' has no version 1"):
        tracking.get_version("missing", 1)
    version = register(model, "one-version")
    assert tracking.version_by_alias(version.name, "champion") is None


def test_alias_set_concurrently_points_to_one_version(model: Path) -> None:
    numbers = [register(model, "contested").number for _ in range(3)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda turn: tracking.set_alias("contested", "champion", numbers[turn % 3]), range(12)))
    client = tracking.connect().client
    with_alias = [
        number for number in numbers if "champion" in client.get_model_version("contested", str(number)).aliases
    ]
    champion = tracking.version_by_alias("contested", "champion")
    assert champion is not None and with_alias == [champion.number]


def test_downloaded_model_equals_the_registered_one(model: Path, tmp_path: Path) -> None:
    downloaded = tracking.download_model(register(model, "round-trip"), tmp_path / "downloaded")
    names = sorted(path.name for path in model.iterdir())
    assert sorted(path.name for path in downloaded.iterdir()) == names
    assert all((downloaded / name).read_bytes() == (model / name).read_bytes() for name in names)


def test_deleted_files_are_one_sentence(model: Path, tmp_path: Path) -> None:
    version = register(model, "deleted")
    make.stored_files(version).rename(tmp_path / "moved")
    with pytest.raises(tracking.TrackingError, match="the files of deleted version 1 cannot be downloaded"):
        tracking.download_model(version, tmp_path / "downloaded")


@pytest.mark.slow
@pytest.mark.xdist_group("mlflow")
def test_real_server_registers_and_loads_a_model(
    mlflow_server: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    with start() as run:
        run.log_metrics({"train_loss": 0.5}, step=1)
        run.log_file(model / "clips.csv", "training")
    assert recorded(run).info.status == "FINISHED"
    version = register(model, "served")
    tracking.set_alias("served", "champion", version.number)
    found = tracking.version_by_alias("served", "champion")
    assert found is not None and found.number == 1
    downloaded = tracking.download_model(found, tmp_path / "downloaded")
    assert Classifier.load(downloaded).classes == make.CLASSES
    assert tracking.find_version("served", found.run_id, tracking.recorded_weights(found)) == found
    monkeypatch.setattr(sys, "path", list(sys.path))  # MLflow prepends the model's code
    answer = mlflow.pyfunc.load_model("models:/served@champion").predict(pd.DataFrame({"audio": [make.noise(3)]}))
    assert answer["class"][0] in make.CLASSES
