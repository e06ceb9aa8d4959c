"""The manifest of a version: what is refused, and the adoption of versions that have none."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import registry as make
from helpers.mlflow import start
from helpers.s3_faults import start_proxy

from mlops import tracking
from mlops.tracking import adoption, history, manifest


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = make.write_data(tmp_path_factory.mktemp("data"))
    return make.write_model(tmp_path_factory.mktemp("model") / "model", data)


@pytest.fixture
def version(request: pytest.FixtureRequest, model: Path) -> tracking.Version:
    name = "".join(letter if letter.isalnum() else "-" for letter in request.node.name)
    tracking.connect().client.create_registered_model(name)
    return make.bare_version(name, model, start().run_id)


def edit(file: str, old: bytes, new: bytes) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        content = (folder / file).read_bytes()
        assert old in content
        (folder / file).write_bytes(content.replace(old, new, 1))

    return damage


DAMAGE = {
    "the file clips.csv was changed": edit("clips.csv", b",train", b",test"),
    "the file model.json was changed": edit("model.json", b"{", b"{ "),
    "the file model.safetensors was changed": lambda folder: edit("model.safetensors", b"weight", b"Weight")(folder),
    "the file history.csv is missing": lambda folder: (folder / "history.csv").unlink(),
    "the file notes.txt was added": lambda folder: (folder / "notes.txt").write_text("hello"),
    "manifest.json was changed": lambda folder: edit("../../manifest.json", b"{", b"{ ")(folder),
    "manifest.json was changed since": lambda folder: (folder / "../../manifest.json").write_bytes(b"\xff"),
    "manifest.json is missing": lambda folder: (folder / "../../manifest.json").unlink(),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_changed_file_is_refused_and_named(what: str, version: tracking.Version, tmp_path: Path) -> None:
    tracking.download_model(version, tmp_path / "intact")
    DAMAGE[what](make.stored_files(version))
    with pytest.raises(tracking.DamagedVersionError) as error:
        tracking.download_model(version, tmp_path / "downloaded")
    assert str(error.value).startswith(f"{version.name} version 1: {what}")
    assert str(tmp_path) not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["intact"]


def test_an_outage_of_the_artifact_store_is_no_damage(
    model: Path, s3: str, s3_server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`audiocnn reconcile` moves the alias away from damaged versions, which an outage must not cause."""
    client = tracking.connect().client
    client.create_experiment("on S3", artifact_location=f"{s3}/mlflow")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "on S3")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    client.create_registered_model("on-s3")
    with start_proxy(s3_server) as faults:
        # Not AWS_ENDPOINT_URL: MLflow keeps a client of another test for minutes, whatever this variable says.
        monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", faults.url)
        stored = make.bare_version("on-s3", model, start().run_id)
        tracking.download_model(stored, tmp_path / "before")
        for fault in ("503", "403"):
            faults.always = {r"/manifest\.json": fault}
            with pytest.raises(tracking.TrackingError) as error:
                tracking.download_model(stored, tmp_path / "during")
            assert not isinstance(error.value, tracking.DamagedVersionError)
            assert "manifest.json of on-s3 version 1 cannot be downloaded" in str(error.value)
        faults.always = {}
        tracking.download_model(stored, tmp_path / "after")


def test_another_model_with_its_own_manifest_is_refused(version: tracking.Version, model: Path, tmp_path: Path) -> None:
    shutil.copytree(model, tmp_path / "other")
    edit("clips.csv", b",train", b",test")(tmp_path / "other")
    other = make.bare_version(version.name, tmp_path / "other", version.run_id)
    stored, others = (make.stored_files(item).parents[1] for item in (version, other))
    shutil.rmtree(stored)
    shutil.copytree(others, stored)
    for tag in version.tags:
        tracking.connect().client.delete_model_version_tag(version.name, "1", tag)
    with pytest.raises(tracking.DamagedVersionError, match=r"manifest\.json was changed"):
        tracking.download_model(tracking.get_version(version.name, 1), tmp_path / "downloaded")


def test_a_manifest_is_recorded_once(version: tracking.Version) -> None:
    client = tracking.connect().client
    with pytest.raises(tracking.TrackingError):
        tracking.connect().call(client.log_model_params, version.model_id, {manifest.PARAMETER: "0" * 64})
    assert len(manifest.recorded_digest(version)) == 64


def test_a_version_without_a_manifest_has_to_be_adopted(version: tracking.Version, model: Path, tmp_path: Path) -> None:
    old = make.bare_version(version.name, model, version.run_id, with_manifest=False)
    with pytest.raises(tracking.DamagedVersionError, match=r"has no manifest, .*audiocnn adopt 2 --"):
        tracking.download_model(old, tmp_path / "downloaded")
    with pytest.raises(adoption.AdoptionError, match="say why the files"):
        adoption.adopt(old, because=" ")
    adoption.adopt(old, because="it is the model of the spring release")
    (entry,) = history.entries(version.name)
    assert (entry.kind, entry.version_to, entry.by) == ("adopt", 2, tracking.user()) and "spring" in entry.because
    tracking.download_model(old, tmp_path / "downloaded")
    with pytest.raises(adoption.AdoptionError, match="version 2 has a manifest"):
        adoption.adopt(old, because="again")


@pytest.mark.parametrize("damage", ["tag", "weights", "other kind"])
def test_a_damaged_version_is_not_adopted(damage: str, version: tracking.Version, model: Path, tmp_path: Path) -> None:
    shutil.copytree(model, tmp_path / "model")
    if damage == "weights":
        edit("model.safetensors", b"weight", b"Weight")(tmp_path / "model")
    old = make.bare_version(version.name, tmp_path / "model", version.run_id, with_manifest=False)
    if damage == "tag":
        tracking.tag_version(old.name, old.number, {"model_json_sha256": "0" * 64})
    if damage == "other kind":
        made = tracking.connect().client.create_model_version(old.name, str(model))
        tracking.tag_version(old.name, int(made.version), {})
        old = tracking.get_version(old.name, int(made.version))
    reason = {
        "tag": "differ from the digest in the tag",
        "weights": "cannot be loaded",
        "other kind": "no MLflow model",
    }
    with pytest.raises(adoption.AdoptionError, match=reason[damage]):
        adoption.adopt(tracking.get_version(old.name, old.number), because="a test")
    assert history.entries(old.name) == []


def test_the_manifest_lists_every_file(model: Path) -> None:
    files = json.loads(manifest.make(model))
    assert set(files) == {path.relative_to(model).as_posix() for path in model.rglob("*") if path.is_file()}
    assert files["clips.csv"]["size"] == (model / "clips.csv").stat().st_size
