"""Helpers for tests of the gateway: settings, forms, a running gateway, its answers."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from helpers.project import ROOT
from helpers.torchserve import free_ports
from pipeline import settings as pipeline_settings
from serving.gateway.authentication import KEYS
from serving.gateway.problems import MEDIA_TYPE
from serving.gateway.settings import GatewaySettings
from serving.torchserve.settings import TorchServeSettings

START_TIMEOUT = 60.0  # s


def gateway_settings(**changes: object) -> GatewaySettings:
    """Return the block `gateway` of params.yaml with changes."""
    return pipeline_settings.load(ROOT / "params.yaml", {"gateway": changes}).gateway


def multipart(files: dict[str, tuple[str, bytes]]) -> tuple[bytes, str]:
    """Return a form with files, and its content type."""
    prepared = requests.Request("POST", "http://localhost", files=files).prepare()
    assert isinstance(prepared.body, bytes)
    return prepared.body, prepared.headers["Content-Type"]


@dataclass(frozen=True)
class RunningGateway:
    """A gateway in a process, and the file that it writes its log to."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def post(self, path: str = "/classify", **more: Any) -> requests.Response:
        return requests.post(self.url + path, timeout=60, **more)

    def get(self, path: str, **more: Any) -> requests.Response:
        return requests.get(self.url + path, timeout=60, **more)

    def log_lines(self, identifier: str) -> list[dict[str, Any]]:
        """Return the lines of a request in the log, which are written after its answer."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            lines = [json.loads(line) for line in self.log.read_text().splitlines()]
            if found := [line for line in lines if line.get("request_id") == identifier]:
                return found
            time.sleep(0.05)
        return []


@contextmanager
def gateway(
    folder: Path, torchserve: TorchServeSettings, model: str, keys: str = "", ffmpeg: bool = True, **changes: object
) -> Iterator[RunningGateway]:
    """Run a gateway for the block.

    Args:
        folder: for its log.
        keys: value of AUDIOCNN_GATEWAY_KEYS.
        ffmpeg: the setting `decode.ffmpeg`.
        changes: of the block `gateway`.
    """
    (port,) = free_ports(1)
    values = {f"gateway.{name}": value for name, value in {"port": port, **changes}.items()}
    values |= {f"deploy.{name}": getattr(torchserve, name) for name in ("inference", "state", "max_request_bytes")}
    values |= {"register.name": model, "decode.ffmpeg": ffmpeg}
    options = [f"--set={name}={json.dumps(value)}" for name, value in values.items()]  # JSON is YAML
    log = folder / f"gateway-{port}.log"
    environment = {name: value for name, value in os.environ.items() if name != KEYS} | ({KEYS: keys} if keys else {})
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "serving.gateway", *options],
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
        )
        try:
            running = RunningGateway(f"http://127.0.0.1:{port}", process, log)
            _wait(running)
            yield running
        finally:
            process.terminate()
            process.wait(30)


def rounded(value: object) -> object:
    """Return an answer with numbers that do not depend on the batch in which TorchServe computed it."""
    return json.loads(json.dumps(value), parse_float=lambda text: round(float(text), 4))


def check_problem(response: requests.Response, status: int, reason: str) -> None:
    """Check that a response is a problem with this status and reason, and its members are complete."""
    problem = response.json()
    assert (response.status_code, problem["reason"]) == (status, reason), problem
    assert response.headers["Content-Type"] == MEDIA_TYPE
    assert set(problem) == {"type", "title", "status", "detail", "reason", "request_id"}
    assert problem["status"] == status and problem["detail"] and "\n" not in problem["detail"]
    assert problem["request_id"] == response.headers["X-Request-Id"]


def _wait(running: RunningGateway) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline and running.process.poll() is None:
        try:
            running.get("/healthz")
            return
        except requests.ConnectionError:
            time.sleep(0.05)
    raise AssertionError(f"the gateway did not start: {running.log.read_text()}")
