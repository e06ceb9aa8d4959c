"""Building model archives."""

import hashlib
import json
from zipfile import ZipFile

import pytest
from helpers.torchserve import small_model

from audiocnn.classifier import ModelError
from serving.torchserve.archive import build_archive
from serving.torchserve.client import from_served_version, to_served_version


@pytest.fixture
def model(tmp_path):
    small_model(tmp_path / "model", seed=1)
    return tmp_path / "model"


def test_archive_contains_only_the_handler_the_model_and_the_manifest(model, tmp_path):
    path = build_archive(model, "sounds", 3, tmp_path / "store")
    assert path == tmp_path / "store" / "sounds-3.mar"
    with ZipFile(path) as archive:
        assert sorted(archive.namelist()) == [
            "MAR-INF/MANIFEST.json",
            "handler.py",
            "model.json",
            "model.safetensors",
        ]
        manifest = json.loads(archive.read("MAR-INF/MANIFEST.json"))
        assert archive.read("model.safetensors") == (model / "model.safetensors").read_bytes()
    assert manifest["model"] == {"modelName": "sounds", "modelVersion": "3.0", "handler": "handler.py"}
    assert manifest["registryVersion"] == 3


def test_archives_of_the_same_model_are_identical(model, tmp_path):
    digests = {
        hashlib.sha256(build_archive(model, "sounds", 3, tmp_path / store).read_bytes()).hexdigest()
        for store in ("a", "b")
    }
    assert len(digests) == 1


def test_modified_weights_are_refused_and_nothing_is_written(model, tmp_path):
    weights = bytearray((model / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (model / "model.safetensors").write_bytes(weights)
    with pytest.raises(ModelError, match="SHA-256"):
        build_archive(model, "sounds", 3, tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_model_of_another_front_end_version_is_refused(model, tmp_path):
    card = json.loads((model / "model.json").read_text())
    (model / "model.json").write_text(json.dumps({**card, "front_end": 99}))
    with pytest.raises(ModelError, match="front end 99"):
        build_archive(model, "sounds", 3, tmp_path / "store")


def test_versions_are_converted_in_both_directions():
    assert from_served_version(to_served_version(12)) == 12
    assert from_served_version("beta") is None
