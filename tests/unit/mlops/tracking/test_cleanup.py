"""The removal of old versions: what it keeps, and that storage is freed."""

from collections.abc import Callable
from pathlib import Path

import boto3
import pytest
from helpers import registry as make
from helpers.mlflow import start

from mlops import tracking
from mlops.tracking import champion, cleanup, history, manifest

Files = Callable[[str], bool]  # whether an MLflow model has files


@pytest.fixture(params=["folder", "s3", pytest.param("server", marks=pytest.mark.slow)])
def has_files(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    """Keep artifacts in a folder, on S3, or behind a server, and return how to look for them there."""
    if request.param == "server":
        monkeypatch.setenv("MLFLOW_TRACKING_URI", request.getfixturevalue("mlflow_server"))
        store = request.getfixturevalue("tmp_path_factory").getbasetemp()
        return lambda model: bool(list(store.glob(f"server*/store/*/models/{model}/artifacts/*")))
    location = tmp_path.as_uri() if request.param == "folder" else request.getfixturevalue("s3")
    tracking.connect().client.create_experiment(str(tmp_path), location)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", str(tmp_path))
    if request.param == "folder":
        return lambda model: bool(list(tmp_path.glob(f"models/{model}/artifacts/*")))
    bucket = location.removeprefix("s3://")
    return lambda model: "Contents" in boto3.client("s3").list_objects_v2(Bucket=bucket, Prefix=f"models/{model}/")


@pytest.fixture
def name(has_files: Files, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A registered model with eight versions."""
    name = request.node.name
    tracking.connect().client.create_registered_model(name)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.json").write_text("{}")
    run_id = start().run_id
    for _ in range(8):
        make.bare_version(name, tmp_path / "model", run_id)
    return name


def numbers(removals: list[cleanup.Removal]) -> list[int]:
    return [removal.version.number for removal in removals]


@pytest.mark.xdist_group("mlflow")
def test_old_versions_and_their_files_are_removed(name: str, has_files: Files, tmp_path: Path) -> None:
    model = tmp_path / "model"
    for number in (2, 3, 5):
        champion.move(name, number, kind="promote", by="policy")
    tracking.tag_version(name, 4, {"decision": "wait"})
    tracking.tag_version(name, 6, {"decision": "wait", tracking.STATUS_TAG: "approved"})  # it waits no longer
    ids = {number: tracking.get_version(name, number).model_id for number in range(1, 9)}
    planned = cleanup.plan(name, keep=2)
    assert numbers(planned) == [1, 6] and all(map(has_files, ids.values()))
    assert planned[0].size == len("{}") + len(manifest.make(model))
    for removal in planned:
        cleanup.remove(removal)
    assert [number for number, model in ids.items() if not has_files(model)] == [1, 6]
    with pytest.raises(tracking.TrackingError, match="has no version 1"):
        tracking.get_version(name, 1)
    assert [(entry.kind, entry.version_to) for entry in history.entries(name)[3:]] == [("delete", 1), ("delete", 6)]
    assert cleanup.plan(name, keep=2) == [] and history.verify(name) == []
    assert champion.rollback(name).number == 3
    assert numbers(cleanup.plan(name, keep=2)) == [5], "a rollback no longer leads to it"


@pytest.mark.parametrize("has_files", ["folder"], indirect=True)
def test_marked_and_foreign_versions_are_kept(name: str, tmp_path: Path) -> None:
    tracking.set_alias(name, "baseline", 1)
    tracking.tag_version(name, 2, {"deployed_at": "2026-01-01T00:00:00Z"})
    tracking.connect().client.create_model_version(name, str(tmp_path))
    assert numbers(cleanup.plan(name, keep=1)) == [3, 4, 5, 6, 7, 8]


@pytest.mark.parametrize("has_files", ["folder"], indirect=True)
def test_files_of_another_registered_model_stay(name: str, has_files: Files) -> None:
    client = tracking.connect().client
    shared = tracking.get_version(name, 1).model_id
    client.create_registered_model("copy")
    client.create_model_version("copy", f"models:/{shared}")
    first, second = cleanup.plan(name, keep=6)
    assert first.size == 0 and second.size > 0
    cleanup.remove(first)
    assert has_files(shared) and client.get_model_version("copy", "1").source == f"models:/{shared}"


@pytest.mark.parametrize("has_files", ["folder"], indirect=True)
def test_an_interrupted_removal_is_repeated(name: str, has_files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = tracking.connect()
    (removal,) = cleanup.plan(name, keep=7)

    def fail(*_: object) -> None:
        raise tracking.TrackingError("connection lost")

    with monkeypatch.context() as patch, pytest.raises(tracking.TrackingError):
        patch.setattr(connection.client, "delete_model_version", fail)
        cleanup.remove(removal)
    for again in cleanup.plan(name, keep=7):
        cleanup.remove(again)
    assert cleanup.plan(name, keep=7) == [] and not has_files(removal.version.model_id)
