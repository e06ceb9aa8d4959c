"""Registering a version in a running TorchServe."""

import os
import threading

import psutil
import pytest
from helpers.torchserve import build

from serving.torchserve import launch
from serving.torchserve.client import ServingError
from serving.torchserve.registration import ensure_registered

pytestmark = pytest.mark.xdist_group("torchserve")


def test_archive_that_appears_during_the_registration_is_registered(running, tmp_path, monkeypatch):
    """TorchServe sees a file that exists and is no regular one, as when it is copied between two of its checks."""
    wanted = build(running.model_folder, "other", 1, tmp_path)
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
        (tmp_path / wanted.archive).replace(place)

    copying = threading.Thread(target=copy)
    copying.start()
    ensure_registered(running.client, wanted)
    copying.join()
    assert asked.is_set()
    assert running.client.default_version("other") == wanted.served_version
    running.client.unregister("other", wanted.served_version)


def test_workers_have_the_environment_that_keeps_them_fast(running):
    (served,) = running.client.list_versions("sounds")
    (pid,) = served.worker_pids.values()
    environment = psutil.Process(pid).environ()
    assert environment["OMP_WAIT_POLICY"] == "PASSIVE"
    assert int(environment["OMP_NUM_THREADS"]) <= launch.MAX_THREADS
