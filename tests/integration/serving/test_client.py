"""TorchServeClient with a real TorchServe."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from zipfile import ZipFile

import pytest
from helpers.torchserve import build, encode, free_ports, noise, small_model

from serving.torchserve.client import ServingError, TorchServeClient

pytestmark = pytest.mark.xdist_group("torchserve")
CLIP = encode(noise())


def test_registered_and_unknown_models_are_described(running):
    (served,) = running.client.list_versions("sounds")
    assert (served.version, served.ready_workers) == (running.version, 1)
    assert len(served.worker_pids) == 1
    assert running.client.default_version("sounds") == running.version
    assert running.client.list_models() == ["sounds"]
    assert running.client.health() == "Healthy"
    assert running.client.list_versions("unknown") == []
    assert running.client.default_version("unknown") is None


def test_new_version_answers_by_default_only_after_set_default(running, tmp_path):
    small_model(tmp_path / "two", seed=2)
    index = build(tmp_path / "two", "sounds", 2, running.model_store)
    client, second = running.client, index.served_version
    client.register(index)
    try:
        assert client.predict(CLIP, "sounds")["model"]["version"] == 1
        assert client.predict(CLIP, "sounds", second)["model"]["version"] == 2
        client.set_default("sounds", second)
        assert client.predict(CLIP, "sounds")["model"]["version"] == 2
        with pytest.raises(ServingError, match="default version"):
            client.unregister("sounds", second)
    finally:
        client.set_default("sounds", running.version)
        client.unregister("sounds", second)
        (running.model_store / index.archive).unlink()
    assert [served.version for served in client.list_versions("sounds")] == [running.version]


def test_archive_with_modified_weights_is_not_served(running):
    index = build(running.model_folder, "modified", 1, running.model_store)
    archive = running.model_store / index.archive
    with ZipFile(archive) as original:
        members = {name: original.read(name) for name in original.namelist()}
    weights = bytearray(members["model.safetensors"])
    weights[-1] ^= 1
    with ZipFile(archive, "w") as changed:
        for name, content in {**members, "model.safetensors": bytes(weights)}.items():
            changed.writestr(name, content)
    with pytest.raises(
        ServingError, match=rf"modified {index.served_version}: a worker ended while it loaded the model"
    ):
        running.client.register(index)
    archive.unlink()
    assert running.client.list_versions("modified") == []


def test_archive_outside_the_model_store_is_refused(running, tmp_path):
    index = build(running.model_folder, "outside", 1, tmp_path)
    outside = tmp_path / index.archive
    for address in (f"file://{outside}", "http://127.0.0.1:9/outside.mar", f"../../{index.archive}"):
        with pytest.raises(ServingError, match="allowed"):
            running.client.register(index.replace(archive=address))


def test_error_of_a_refused_clip_has_message_and_status(running):
    with pytest.raises(ServingError, match="cannot be decoded as audio") as refused:
        running.client.predict(b"not audio", "sounds")
    assert refused.value.status == 415
    with pytest.raises(ServingError, match="max_request_bytes") as refused:
        running.client.predict(bytes(running.settings.max_request_bytes + 1), "sounds")
    assert refused.value.status == 413


def test_model_without_workers_is_busy(running):
    running.client.scale_workers("sounds", running.version, workers=0)
    try:
        with pytest.raises(ServingError, match="try again later") as refused:
            running.client.predict(CLIP, "sounds")
        assert refused.value.status == 503
    finally:
        running.client.scale_workers("sounds", running.version, workers=1)
    assert running.client.predict(CLIP, "sounds")["predictions"]


def test_wrong_key_file_is_named(running, tmp_path):
    keys = tmp_path / "key_file.json"
    keys.write_text(json.dumps({api: {"key": "other"} for api in ("inference", "management")}))
    client = TorchServeClient(running.settings.inference, running.settings.management, keys)
    with pytest.raises(ServingError, match=r"refuses the key in .*key_file.json"):
        client.list_models()


def test_unreachable_server_is_reported_with_a_remedy():
    url = f"http://127.0.0.1:{free_ports(1)[0]}"
    with pytest.raises(ServingError, match=r"TorchServe at http://127.0.0.1.*cannot be reached.*set deploy.management"):
        TorchServeClient(url, url).list_models()


def test_server_that_is_not_torchserve_is_reported():
    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>hello</html>")

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Page) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{web.server_port}"
        with pytest.raises(ServingError, match="is not TorchServe"):
            TorchServeClient(url, url).list_models()
        web.shutdown()


def test_proxy_is_not_used_on_loopback(running, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_ports(1)[0]}")
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_ports(1)[0]}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert TorchServeClient.from_settings(running.settings).health() == "Healthy"
