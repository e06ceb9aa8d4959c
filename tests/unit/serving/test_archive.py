"""The archive: what it holds, that it is the same twice, that a broken model never becomes one."""

import hashlib
import json
from zipfile import ZipFile

import pytest
from helpers.torchserve import small_model

from audiocnn.classifier import ModelError
from serving.torchserve.archive import ArchiveError, build, registry_version, served_version


@pytest.fixture
def model(tmp_path):
    small_model(tmp_path / "model", seed=1)
    return tmp_path / "model"


def test_archive_holds_handler_model_and_manifest_and_nothing_else(model, tmp_path):
    path = build(model, "sounds", 3, tmp_path / "store")
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


def test_same_model_gives_the_same_bytes(model, tmp_path):
    digests = {
        hashlib.sha256(build(model, "sounds", 3, tmp_path / store).read_bytes()).hexdigest() for store in ("a", "b")
    }
    assert len(digests) == 1


def test_tampered_weights_are_refused_and_nothing_is_written(model, tmp_path):
    weights = bytearray((model / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (model / "model.safetensors").write_bytes(weights)
    with pytest.raises(ModelError, match="SHA-256"):
        build(model, "sounds", 3, tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_model_of_another_front_end_is_refused(model, tmp_path):
    card = json.loads((model / "model.json").read_text())
    (model / "model.json").write_text(json.dumps({**card, "front_end": 99}))
    with pytest.raises(ModelError, match="front end 99"):
        build(model, "sounds", 3, tmp_path / "store")


@pytest.mark.parametrize(("name", "version"), [("../sounds", 1), ("", 1), ("two words", 1), ("sounds", 0)])
def test_impossible_name_or_version_is_refused(model, tmp_path, name, version):
    with pytest.raises(ArchiveError, match="a name of letters"):
        build(model, name, version, tmp_path / "store")


def test_versions_translate_both_ways():
    assert registry_version(served_version(12)) == 12
    assert registry_version("beta") is None
    assert registry_version(None) is None
