"""The management API's client, against a real TorchServe."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from helpers.torchserve import encode, free_ports, noise, small_model

from serving.torchserve import archive
from serving.torchserve.client import ServingError, TorchServe

pytestmark = pytest.mark.xdist_group("torchserve")
SMALL = {"batch_size": 4, "max_batch_delay_ms": 10, "workers": 1}


def test_describes_what_is_served(running):
    (served,) = running.server.describe("sounds")
    assert (served.version, served.archive, served.ready, len(served.processes)) == ("1.0", "sounds-1.mar", 1, 1)
    assert running.server.default("sounds") == "1.0"
    assert running.server.models() == ["sounds"]
    assert running.server.ping() == "Healthy"


def test_unknown_model_is_none_not_an_error(running):
    assert running.server.describe("nobody") == []
    assert running.server.default("nobody") is None


def test_second_version_waits_until_it_is_made_the_default(running, tmp_path):
    small_model(tmp_path / "two", seed=2)
    mar = archive.build(tmp_path / "two", "sounds", 2, running.store)
    clip = encode(noise())
    running.server.register(mar.name, "sounds", "2.0", **SMALL)
    try:
        assert running.server.predict(clip, "sounds")["model"]["version"] == 1
        assert running.server.predict(clip, "sounds", "2.0")["model"]["version"] == 2
        running.server.set_default("sounds", "2.0")
        assert running.server.predict(clip, "sounds")["model"]["version"] == 2
        with pytest.raises(ServingError, match="default version"):
            running.server.unregister("sounds", "2.0")
    finally:
        running.server.set_default("sounds", "1.0")
        running.server.unregister("sounds", "2.0")
        mar.unlink()
    assert [served.version for served in running.server.describe("sounds")] == ["1.0"]


def test_weights_changed_inside_an_archive_are_not_served(running):
    from zipfile import ZipFile

    mar = archive.build(running.model, "tampered", 1, running.store)
    with ZipFile(mar) as sound:
        members = {name: sound.read(name) for name in sound.namelist()}
    weights = bytearray(members["model.safetensors"])
    weights[-1] ^= 1
    with ZipFile(mar, "w") as changed:
        for name, content in {**members, "model.safetensors": bytes(weights)}.items():
            changed.writestr(name, content)
    with pytest.raises(ServingError, match=r"a worker of tampered 1.0 died"):
        running.server.register(mar.name, "tampered", "1.0", **SMALL)
    mar.unlink()
    assert running.server.describe("tampered") == []


def test_model_from_outside_the_store_is_refused(running, tmp_path):
    mar = archive.build(running.model, "outside", 1, tmp_path)
    for place in (f"file://{mar}", "http://127.0.0.1:9/outside.mar", f"../../{mar.name}"):
        with pytest.raises(ServingError, match="allowed"):
            running.server.register(place, "outside", "1.0", **SMALL)


def test_refused_clip_carries_the_servers_sentence_and_status(running):
    with pytest.raises(ServingError, match="cannot be decoded as audio") as refused:
        running.server.predict(b"no sound", "sounds")
    assert refused.value.status == 415
    with pytest.raises(ServingError, match="max_request_bytes") as refused:
        running.server.predict(bytes(running.settings.max_request_bytes + 1), "sounds")
    assert refused.value.status == 413


def test_model_without_a_worker_is_busy_not_at_fault(running):
    running.server.scale("sounds", "1.0", workers=0)
    try:
        with pytest.raises(ServingError, match="ask again") as refused:
            running.server.predict(encode(noise()), "sounds")
        assert refused.value.status == 503
    finally:
        running.server.scale("sounds", "1.0", workers=1)
    assert running.server.predict(encode(noise()), "sounds")["predictions"]


def test_keys_of_another_instance_are_named(running, tmp_path):
    keys = tmp_path / "key_file.json"
    keys.write_text(json.dumps({api: {"key": "other"} for api in ("inference", "management")}))
    stranger = TorchServe(running.settings.inference, running.settings.management, keys)
    with pytest.raises(ServingError, match=r"refuses the key in .*key_file.json"):
        stranger.models()


def test_nobody_there_is_one_sentence():
    url = f"http://127.0.0.1:{free_ports(1)[0]}"
    with pytest.raises(ServingError, match=r"no TorchServe answers at http://127.0.0.1.*set deploy.management"):
        TorchServe(url, url).models()
    assert not TorchServe(url, url).answers()


def test_a_web_server_that_is_no_torchserve_is_named():
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
        with pytest.raises(ServingError, match="is no TorchServe"):
            TorchServe(url, url).models()
        web.shutdown()


def test_proxy_of_the_environment_is_not_asked_for_loopback(running, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_ports(1)[0]}")
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_ports(1)[0]}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert TorchServe.of(running.settings).ping() == "Healthy"
