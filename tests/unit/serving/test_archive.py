"""Building model archives."""

import json
from zipfile import ZipFile

import pytest
from helpers.torchserve import build, small_model

from audiocnn.classifier import ModelError
from serving.torchserve.client import from_served_version


@pytest.fixture
def model(tmp_path):
    small_model(tmp_path / "model", seed=1)
    return tmp_path / "model"


@pytest.mark.parametrize("backend", ["torch", "auto"])
def test_archive_contains_only_handler_model_backend_and_manifest(model, tmp_path, backend):
    index = build(model, "sounds", 3, tmp_path / "store", backend=backend)
    with ZipFile(tmp_path / "store" / index.archive) as archive:
        names = {"MAR-INF/MANIFEST.json", "backend.json", "handler.py", "model.json", "model.safetensors"}
        assert set(archive.namelist()) == names | ({"network.onnx"} if backend == "auto" else set())
        manifest = json.loads(archive.read("MAR-INF/MANIFEST.json"))
        assert archive.read("model.safetensors") == (model / "model.safetensors").read_bytes()
        assert json.loads(archive.read("backend.json"))["name"] == ("openvino" if backend == "auto" else "torch")
    assert manifest["model"] == {"modelName": "sounds", "modelVersion": index.served_version, "handler": "handler.py"}
    assert manifest["registryVersion"] == 3 == from_served_version(index.served_version)


@pytest.mark.parametrize("backend", ["torch", "auto"])
def test_archives_of_the_same_model_are_identical(model, tmp_path, backend):
    assert len({build(model, "sounds", 3, tmp_path / store, backend=backend).sha256 for store in ("a", "b")}) == 1


@pytest.mark.parametrize("changes", [{"batch_size": 3}, {"max_batch_delay_ms": 7}, {"backend": "onnxruntime"}])
def test_other_settings_are_another_release(model, tmp_path, changes):
    served = {build(model, "sounds", 3, tmp_path, **each).served_version for each in ({}, changes)}
    assert len(served) == 2


def test_modified_weights_are_refused_and_nothing_is_written(model, tmp_path):
    weights = bytearray((model / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (model / "model.safetensors").write_bytes(weights)
    with pytest.raises(ModelError, match="SHA-256"):
        build(model, "sounds", 3, tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_model_of_another_front_end_version_is_refused(model, tmp_path):
    card = json.loads((model / "model.json").read_text())
    (model / "model.json").write_text(json.dumps({**card, "front_end": 99}))
    with pytest.raises(ModelError, match="front end 99"):
        build(model, "sounds", 3, tmp_path / "store")


@pytest.mark.parametrize("other", ["beta", "7", "7.x", ""])
def test_versions_that_deploy_did_not_register_have_no_number(other):
    assert from_served_version(other) is None
