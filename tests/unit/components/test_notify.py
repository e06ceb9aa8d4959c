"""The notification of a failed Kubeflow run, against a real HTTP server for the webhook and for the API."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from helpers.kfp_local import init_kfp_local
from helpers.project import ROOT
from helpers.torchserve import free_ports
from kfp import dsl

from components.notify import step
from components.notify.component import notify as component
from components.notify.step import FinishedRun, notify
from mlops.cluster import WEBHOOK_VARIABLE

TITLES = {"ingest": "Ingest clips", "train": "Train"}
FAILED = FinishedRun("5c2f", "training-x7k2p", "FAILED", "")


def node(name: str, state: str, message: str = "", end: str = "2026-01-01T00:02:00Z") -> dict[str, Any]:
    return {
        "display_name": name,
        "state": state,
        "end_time": end,
        **({"error": {"message": message}} if message else {}),
    }


@dataclass
class Servers:
    """A webhook at /hook, and the API with the tasks of one run."""

    url: str = ""
    nodes: list[dict[str, Any]] = field(default_factory=list)
    state: str = "RUNNING"
    status: int = 200  # of the webhook
    posted: list[dict[str, Any]] = field(default_factory=list)
    token: str | None = None  # of the last request to the API

    def overrides(self, **settings: str) -> dict[str, Any]:
        return {"kubeflow": {"api": self.url, **settings}}


class Handler(BaseHTTPRequestHandler):
    servers: Servers

    def do_GET(self) -> None:
        assert self.path == "/apis/v2beta1/runs/5c2f"
        self.servers.token = self.headers["Authorization"]
        run = {"run_id": "5c2f", "state": self.servers.state, "run_details": {"task_details": self.servers.nodes}}
        self.answer(200, json.dumps(run).encode())

    def do_POST(self) -> None:
        assert self.path == "/hook"
        self.servers.posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.answer(self.servers.status, b"ok")

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Servers]:
    servers = Servers()
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"servers": servers})) as server:
        servers.url = f"http://127.0.0.1:{server.server_address[1]}"
        monkeypatch.setenv(WEBHOOK_VARIABLE, f"{servers.url}/hook")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield servers
        server.shutdown()


def test_a_failure_names_task_reason_and_link(servers: Servers) -> None:
    servers.nodes = [
        node("training-x7k2p", "RUNNING"),
        node("executor", "FAILED", "exit code 1"),
        node("train", "FAILED", "OOMKilled\n(exit code 137)"),
        node("ingest", "SUCCEEDED"),
    ]
    notify(FAILED, TITLES, "demo", servers.overrides(ui="https://kubeflow.example.org"))
    text = "Kubeflow run training-x7k2p failed in the task 'Train': OOMKilled (exit code 137)"
    assert servers.posted == [{"text": f"{text}\nhttps://kubeflow.example.org/#/runs/details/5c2f"}]


def test_the_first_of_several_failed_tasks_is_named(servers: Servers) -> None:
    servers.nodes = [
        node("train", "FAILED", end="2026-01-01T09:00:00Z"),
        node("ingest-driver", "FAILED", end="2026-01-01T08:00:00Z"),
    ]
    notify(FAILED, TITLES, "demo", servers.overrides())
    assert "failed in the task 'Ingest clips': Kubeflow gives no reason" in servers.posted[0]["text"]


def test_the_api_gets_the_token_of_the_service_account(
    servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("open-sesame\n")
    monkeypatch.setattr(step, "SERVICE_ACCOUNT_TOKEN", tmp_path / "token")
    servers.nodes = [node("train", "FAILED")]
    notify(FAILED, TITLES, "demo", servers.overrides())
    assert servers.token == "Bearer open-sesame" and len(servers.posted) == 1


def test_without_the_api_the_reason_of_the_exit_handler_is_sent(servers: Servers) -> None:
    run = FinishedRun("5c2f", "training-x7k2p", "FAILED", "the node is gone")
    notify(run, TITLES, "demo", {"kubeflow.api": f"http://127.0.0.1:{free_ports(1)[0]}"})
    assert servers.posted == [{"text": "Kubeflow run training-x7k2p failed: the node is gone"}]


@pytest.mark.parametrize("state", ["SUCCEEDED", "RUNNING"])
def test_a_run_that_ended_well_is_not_reported(servers: Servers, state: str) -> None:
    servers.nodes = [node("train", "SUCCEEDED")]
    notify(FinishedRun("5c2f", "training-x7k2p", state, ""), TITLES, "demo", servers.overrides())
    assert servers.posted == []


def test_a_failure_that_kubeflow_calls_running_is_reported(servers: Servers) -> None:
    servers.nodes = [node("train", "FAILED")]
    notify(FinishedRun("5c2f", "training-x7k2p", "RUNNING", ""), TITLES, "demo", servers.overrides())
    assert "in the task 'Train'" in servers.posted[0]["text"]


def test_a_canceled_run_is_not_reported(servers: Servers) -> None:
    servers.state, servers.nodes = "CANCELING", [node("train", "FAILED")]
    notify(FAILED, TITLES, "demo", servers.overrides())
    assert servers.posted == []


def test_without_a_webhook_nothing_is_sent(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(WEBHOOK_VARIABLE)
    notify(FAILED, TITLES, "demo", servers.overrides())
    assert servers.posted == []


def test_a_run_with_wrong_parameters_is_reported_too(servers: Servers) -> None:
    notify(FAILED, TITLES, "no-such-recipe", {"kubeflow.api": servers.url})
    assert servers.posted[0]["text"].startswith("Kubeflow run training-x7k2p failed")


@pytest.mark.parametrize("webhook", ["{url}/hook", "http://127.0.0.1:1/s3cret", "s3cret"])
def test_a_webhook_that_fails_is_neither_an_error_nor_named(
    servers: Servers, webhook: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    servers.status = 500
    monkeypatch.setenv(WEBHOOK_VARIABLE, webhook.format(url=servers.url))
    notify(FAILED, TITLES, "demo", servers.overrides())
    out = capsys.readouterr().out
    assert "could not be reported" in out and "s3cret" not in out and "/hook" not in out


def test_the_exit_handler_reports_the_failure_of_a_pipeline(
    servers: Servers, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    init_kfp_local(tmp_path, monkeypatch)

    @dsl.component(base_image="unused", install_kfp_package=False)
    def fail() -> None:
        raise RuntimeError("broken")

    @dsl.pipeline
    def failing(overrides: dict) -> None:
        names = {"titles": TITLES, "kfp_run": "5c2f", "run_name": "failing"}
        with dsl.ExitHandler(component(recipe="demo", overrides=overrides, **names)):
            fail()

    with pytest.raises(RuntimeError, match="fail"):
        failing(overrides=servers.overrides())
    assert [post["text"][:27] for post in servers.posted] == ["Kubeflow run failing failed"]
