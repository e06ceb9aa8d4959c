"""The servers that the command line starts: started once, found again, stopped."""

import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest
import requests
from helpers.processes import is_alive
from helpers.project import ROOT
from helpers.torchserve import deploy_settings

from mlops import tracking
from mlops.process import ProcessError
from pipeline.cli import servers
from serving.supervision.endpoint import supervisor_process


@pytest.mark.slow
@pytest.mark.xdist_group("mlflow-ui")  # two tests that look for a free port at once may find the same one
def test_mlflow_ui_is_started_once_and_stopped(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = workplace / """p x (1) #a?b%20 é 🐸 $HOME "q" it's"""
    folder.mkdir()
    monkeypatch.chdir(folder)
    with tracking.start_run("visible in the UI", {}, {}, tracking.Lineage("d" * 64, "demo", 1)) as run:
        run.log_metrics({"accuracy": 0.5})
        run.log_file(Path(__file__), "tests")
    url = servers.start_mlflow_ui()
    try:
        assert url.startswith("http://127.0.0.1:")
        servers.mlflow(ROOT / "params.yaml")
        assert capsys.readouterr().out == f"Runs:    {url}/#/experiments\nModels:  {url}/#/models/audiocnn\n"
        found = requests.get(f"{url}/api/2.0/mlflow/runs/get", params={"run_id": run.run_id}, timeout=10)
        metrics = {metric["key"]: metric["value"] for metric in found.json()["run"]["data"]["metrics"]}
        assert metrics["accuracy"] == 0.5
        artifact = {"path": f"tests/{Path(__file__).name}", "run_uuid": run.run_id}
        assert requests.get(f"{url}/get-artifact", params=artifact, timeout=10).content == Path(__file__).read_bytes()
        leader = servers.MLFLOW_UI.find()
        assert leader is not None
        assert leader.environ()["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"
        tree = [leader, *leader.children(recursive=True)]
    finally:
        stopped = servers.stop_servers(deploy_settings(workplace / "torchserve"))
    assert stopped == ["MLflow UI"]
    assert not [process for process in tree if is_alive(process)]
    assert servers.stop_servers(deploy_settings(workplace / "torchserve")) == []


def test_address_of_a_remote_mlflow_is_shown_without_its_password(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@mlflow.example.org")
    assert servers.start_mlflow_ui() == "https://mlflow.example.org"
    assert list(workplace.iterdir()) == []


def test_process_with_a_recycled_pid_is_not_stopped(workplace: Path) -> None:
    servers.MLFLOW_UI.state_file.parent.mkdir()
    state = {"pid": os.getpid(), "create_time": 1.0, "url": "http://127.0.0.1:1"}
    servers.MLFLOW_UI.state_file.write_text(json.dumps(state))
    assert servers.stop_servers(deploy_settings(workplace / "torchserve")) == []


def test_a_supervisor_without_servers_is_stopped_and_named(workplace: Path) -> None:
    settings = deploy_settings(workplace / "torchserve")
    process = supervisor_process(Path(settings.state))
    process.spawn([sys.executable, "-c", "import time; time.sleep(60)"], "http://127.0.0.1:1")
    assert servers.stop_servers(settings) == ["audiocnn serve"]
    assert process.find() is None


@pytest.mark.xdist_group("mlflow-ui")
def test_failed_start_names_the_log_and_leaves_no_process(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (workplace / "file").touch()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{workplace}/file/mlflow.db")
    before = psutil.Process().children(recursive=True)  # helpers of other tests, such as multiprocessing's tracker
    with pytest.raises(ProcessError, match=r"MLflow UI ended.*var/logs/mlflow-ui\.log"):
        servers.start_mlflow_ui()
    assert not servers.MLFLOW_UI.state_file.exists()
    assert set(psutil.Process().children(recursive=True)) <= set(before)


@pytest.mark.xdist_group("mlflow-ui")
def test_another_server_on_the_port_is_not_taken_for_the_ui(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Healthy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Healthy) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        port = other.server_address[1]
        monkeypatch.setattr(servers, "MLFLOW_UI_PORTS", range(port, port + 1))
        with pytest.raises(ProcessError, match=r"all ports from .* are in use"):
            servers.start_mlflow_ui()
        monkeypatch.setattr(servers, "is_port_free", lambda port: True)  # another program takes it after the check
        with pytest.raises(ProcessError, match="MLflow UI ended"):
            servers.start_mlflow_ui()
        assert not servers.MLFLOW_UI.state_file.exists()
        other.shutdown()
