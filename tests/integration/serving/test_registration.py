"""Registering a version in a running TorchServe."""

import os
import threading
from pathlib import Path

import pytest

from serving.torchserve.archive import build_archive
from serving.torchserve.client import ServingError
from serving.torchserve.model_store import Index
from serving.torchserve.registration import ensure_registered

pytestmark = pytest.mark.xdist_group("torchserve")


def index(name: str, **changes: object) -> Index:
    values = {"workers": 1, "batch_size": 8, "max_batch_delay_ms": 0, "sha256": "", "written_at": ""}
    return Index(name=name, version=1, archive=f"{name}-1.mar", **{**values, **changes})


@pytest.fixture
def unregistered(running):
    """Return a name for a model, and remove its version afterwards."""
    yield "other"
    running.client.unregister("other", "1.0")


def test_archive_that_appears_during_the_registration_is_registered(running, unregistered, tmp_path, monkeypatch):
    """TorchServe sees a file that exists and is no regular one, as when it is copied between two of its checks."""
    wanted = index(unregistered)
    place = running.model_store / wanted.archive
    os.mkfifo(place)
    asked = threading.Event()
    register = type(running.client).register

    def watched(client, *args, **options) -> None:
        try:
            register(client, *args, **options)
        except ServingError as error:
            assert '"fileList" is null (HTTP 500)' in str(error)
            asked.set()
            raise

    monkeypatch.setattr(type(running.client), "register", watched)

    def copy() -> None:
        asked.wait(30)
        build_archive(running.model_folder, unregistered, 1, Path(tmp_path)).replace(place)

    copying = threading.Thread(target=copy)
    copying.start()
    ensure_registered(running.client, wanted)
    copying.join()
    assert asked.is_set()
    assert running.client.default_version(unregistered) == "1.0"
