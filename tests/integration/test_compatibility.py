"""Compatibility with release 0.1.0: versions can be served and approved, the cache is used, checkpoints are ignored.

tests/fixtures/make_release_0_1_0.py wrote the fixture.
"""

import sqlite3
import tarfile
from pathlib import Path

import numpy as np
import pytest
from helpers.project import read_json
from helpers.registry import SETTINGS
from helpers.torchserve import deploy_settings, encode, noise

from audiocnn.classifier import Classifier
from components.deploy.step import deploy
from mlops import tracking
from mlops.checkpoint_store import CheckpointStore
from mlops.spectrogram_cache.entries import SpectrogramCache
from mlops.storage import open_store
from mlops.tracking import adoption, champion, history
from serving.torchserve import server
from serving.torchserve.client import TorchServeClient

ARCHIVE = Path(__file__).resolve().parents[1] / "fixtures" / "release-0.1.0.tar.xz"
NAME = "audiocnn"
CLASSES = {"dog", "rain", "sea_waves"}


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Unpack the fixture, and make its database the tracking server."""
    with tarfile.open(ARCHIVE) as tar:
        tar.extractall(tmp_path, filter="data")
    dump = (tmp_path / "mlflow.sql").read_text(encoding="utf-8").replace("ROOT", str(tmp_path))
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        database.executescript(dump)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    return tmp_path


@pytest.fixture
def adopted(release: Path) -> Path:
    """Adopt all versions: those of this release have no manifest."""
    for number in (1, 2, 3):
        adoption.adopt(tracking.get_version(NAME, number), because="registered by release 0.1.0")
    return release


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_registered_version_can_be_adopted_and_loaded(release: Path, number: int) -> None:
    with pytest.raises(tracking.DamagedVersionError, match="has no manifest"):
        tracking.download_model(tracking.get_version(NAME, number), release / "model")
    adoption.adopt(tracking.get_version(NAME, number), because="registered by release 0.1.0")
    folder = tracking.download_model(tracking.get_version(NAME, number), release / "model")
    assert read_json(folder / "model.json")["format"] == 2
    classifier = Classifier.load(folder)
    assert set(classifier.classes) == CLASSES
    assert classifier.provenance["recipe"] == "demo" and "recipe" not in classifier.provenance["train"]


def test_the_champion_and_the_history_are_kept(release: Path) -> None:
    version = tracking.version_by_alias(NAME, champion.CHAMPION)
    assert version is not None and version.number == 2
    assert [entry.version_to for entry in history.entries(NAME)] == [1, 2]
    assert history.verify(NAME) == []


@pytest.mark.slow
@pytest.mark.xdist_group("torchserve")
def test_the_champion_is_served(adopted: Path) -> None:
    settings = deploy_settings(adopted / "torchserve")
    try:
        record = deploy(NAME, None, settings, adopted / "deployment")
        assert record.version == 2
        answer = TorchServeClient.from_settings(settings).predict(encode(noise(0.5, 8000), 8000), NAME)
        assert answer["model"]["version"] == 2 and {item["class"] for item in answer["predictions"]} == CLASSES
    finally:
        server.stop(Path(settings.state))


def test_rollback_leads_to_the_champion_before(adopted: Path) -> None:
    assert champion.rollback(NAME).number == 1
    assert [entry.kind for entry in history.entries(NAME)] == ["promote", "promote", *["adopt"] * 3, "rollback"]
    assert history.verify(NAME) == [] and "champion_log" not in tracking.model_tags(NAME)


def test_a_refused_version_can_be_approved_with_a_reason(release: Path) -> None:
    with pytest.raises(champion.ApprovalError, match="refused"):
        champion.approve(NAME, 3)
    assert champion.approve(NAME, 3, because="a test").number == 3


def test_cached_spectrograms_are_used(release: Path) -> None:
    cache = SpectrogramCache(open_store(str(release / "cache")), SETTINGS)
    entries = [path.name for path in (release / "cache" / cache.front_end).rglob("*") if path.is_file()]
    assert len(entries) == 3
    found = list(cache.get_many(entries))
    assert all(entry is not None and np.isfinite(entry).all() for entry in found)


def test_checkpoints_are_not_resumed(release: Path) -> None:
    store = CheckpointStore(str(release / "checkpoints"), "0123456789abcdef")
    with store.lock():
        assert store.read() is None
