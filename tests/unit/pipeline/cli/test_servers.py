"""Servers that the command line starts: one each, found again, and stopped by their own process id."""

import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest
import requests
from helpers.torchserve import deploy_settings

from mlops import tracking
from pipeline.cli import servers


@pytest.mark.slow
@pytest.mark.xdist_group("mlflow-page")  # two that look for a free port at once may find the same one
def test_mlflows_page_is_served_once_and_stopped(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tracking.start_run("seen on the page", {}, {}, tracking.Lineage("d" * 64, "demo", 1)) as run:
        run.metrics({"accuracy": 0.5})
    url = servers.mlflow_page()
    try:
        assert url.startswith("http://127.0.0.1:")
        assert servers.mlflow_page() == url
        found = requests.get(f"{url}/api/2.0/mlflow/runs/get", params={"run_id": run.run_id}, timeout=10)
        assert found.json()["run"]["data"]["metrics"][0]["value"] == 0.5
        page = psutil.Process(json.loads(servers.PAGE.read_text())["pid"])
        family = [page, *page.children(recursive=True)]
    finally:
        assert servers.stop(deploy_settings(workplace / "torchserve")) == ["MLflow's page"]
    assert not psutil.wait_procs(family, timeout=10)[1]
    assert servers.stop(deploy_settings(workplace / "torchserve")) == []


def test_an_mlflow_elsewhere_is_named_without_its_password(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@mlflow.example.org")
    assert servers.mlflow_page() == "https://mlflow.example.org"
    assert list(workplace.iterdir()) == []


def test_a_process_that_only_has_the_number_of_a_dead_server_is_left_alone(workplace: Path) -> None:
    servers.PAGE.parent.mkdir()
    servers.PAGE.write_text(json.dumps({"pid": os.getpid(), "began": 1.0, "url": "http://127.0.0.1:1"}))
    assert servers.stop(deploy_settings(workplace / "torchserve")) == []


@pytest.mark.xdist_group("mlflow-page")
def test_a_page_that_cannot_start_says_where_its_log_is_and_leaves_nothing(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (workplace / "file").touch()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{workplace}/file/mlflow.db")
    before = psutil.Process().children(recursive=True)  # other tests' helpers, such as multiprocessing's tracker
    with pytest.raises(servers.ServerError, match=r"var/logs/mlflow-page\.log"):
        servers.mlflow_page()
    assert not servers.PAGE.exists()
    assert set(psutil.Process().children(recursive=True)) <= set(before)


@pytest.mark.xdist_group("mlflow-page")
def test_a_stranger_on_the_port_does_not_pass_for_the_page(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Healthy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Healthy) as stranger:
        threading.Thread(target=stranger.serve_forever, daemon=True).start()
        port = stranger.server_address[1]
        monkeypatch.setattr(servers, "PORTS", range(port, port + 1))
        monkeypatch.setattr(servers, "_free", lambda port: True)  # it was when we looked
        with pytest.raises(servers.ServerError, match="did not come up"):
            servers.mlflow_page()
        assert not servers.PAGE.exists()
        stranger.shutdown()


@pytest.mark.parametrize("ran_before", [False, True])
def test_an_interrupted_block_stops_the_torchserve_that_it_started_only(
    ran_before: bool, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = []
    monkeypatch.setattr(servers.process, "find", lambda state: object() if ran_before else None)
    monkeypatch.setattr(servers.process, "stop", stopped.append)
    settings = deploy_settings(workplace / "torchserve")
    with pytest.raises(KeyboardInterrupt), servers.no_stray(settings):
        raise KeyboardInterrupt
    assert stopped == ([] if ran_before else [Path(settings.state)])
