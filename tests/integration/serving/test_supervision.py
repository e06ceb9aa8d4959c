"""`audiocnn serve` with a real TorchServe and gateway, whose processes are killed and stopped under clients."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
import requests
from helpers.gateway import gateway_settings
from helpers.processes import is_alive
from helpers.project import ROOT
from helpers.torchserve import build, deploy_settings, encode, free_ports, noise, small_model

from audiocnn.config import DecodeSettings
from audiocnn.strict_model import SettingsError
from mlops.process import STOP_TIMEOUT
from serving.gateway.authentication import KEYS
from serving.supervision.endpoint import Endpoint, gateway_process, started, stop, supervisor_process
from serving.supervision.servers import GatewayServer
from serving.supervision.supervisor import supervise
from serving.torchserve import server as torchserve
from serving.torchserve import worker_probe
from serving.torchserve.client import ServingError
from serving.torchserve.model_store import INDEX, ModelStore, ModelStoreError
from serving.torchserve.settings import ARCHIVE_FOLDER

pytestmark = pytest.mark.xdist_group("torchserve")
NAME, KEY, CLIP = "sounds", "0123456789abcdef", encode(noise())
DECODE = DecodeSettings(ffmpeg=False)
CLIENTS, PAUSE = 2, 0.05  # s between two requests of a client
BACK = 120.0  # s after a fault until there are answers again, on a machine that is busy with other tests
# A server counts as hanging after 8 s instead of 20 s.
PROGRAM = """
import sys
from serving.supervision import servers, supervisor

supervisor.UNANSWERED, servers.PROBE_TIMEOUT = 8.0, 3.0
from pipeline.cli import app

sys.argv[0] = "audiocnn"
app()
"""


@dataclass
class Running:
    """An `audiocnn serve` in the foreground, and its clients."""

    endpoint: Endpoint
    process: subprocess.Popen[bytes]
    answers: list[tuple[float, int]] = field(default_factory=list)  # when each came, and its status
    ended: bool = False

    def ask(self) -> int:
        """Classify a clip; return the status, 0 without an answer."""
        headers = {"Authorization": f"Bearer {KEY}"}
        try:
            response = requests.put(
                f"{self.endpoint.gateway.url}/classify", CLIP, headers=headers, timeout=(2, BACK + 10)
            )
        except requests.RequestException:
            return 0
        return response.status_code

    def run_client(self) -> None:
        while not self.ended:
            status = self.ask()
            self.answers.append((time.monotonic(), status))
            time.sleep(PAUSE)

    def java(self) -> psutil.Process:
        found = torchserve.find(self.endpoint.state)
        assert found is not None
        return found

    def worker(self) -> psutil.Process:
        (found,) = worker_probe.workers(self.java())
        return found

    def gateway(self) -> psutil.Process:
        found = gateway_process(self.endpoint.state).find()
        assert found is not None
        return found

    def wait_for_answers(self) -> None:
        """Wait for further answers to the clients, who may pause before they repeat a request."""
        enough, deadline = len(self.answers) + 2 * CLIENTS, time.monotonic() + BACK
        while len(self.answers) < enough:
            assert time.monotonic() < deadline, "the clients get no answers"
            time.sleep(0.1)

    def wait_for_a_new(self, role: str, pid: int) -> float:
        """Return after how many seconds another process has a role and requests are answered."""
        began = time.monotonic()
        while time.monotonic() < began + BACK:
            try:
                if getattr(self, role)().pid != pid and self.ask() == 200:
                    return time.monotonic() - began
            except (AssertionError, ValueError, psutil.Error):  # there is none just now
                pass
            time.sleep(0.1)
        raise AssertionError(f"{role}: no answer within {BACK:g} s")


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    torchserve_settings = deploy_settings(tmp_path / "state")
    small_model(tmp_path / "model", seed=1)
    archives = tmp_path / "state" / ARCHIVE_FOLDER
    archives.mkdir(parents=True)
    ModelStore(str(archives)).write_index(build(tmp_path / "model", NAME, 1, archives))
    # On a busy machine, TorchServe may be back after the default deadline of 60 s, when the gateway answers 503.
    settings = gateway_settings(port=free_ports(1)[0], deadline_s=BACK)
    endpoint = Endpoint(torchserve_settings, settings, DECODE, NAME)
    options = endpoint.command("audiocnn")[3:]
    with (tmp_path / "serve.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, "serve", *options],
            cwd=ROOT,
            env={**os.environ, KEYS: f"me:{KEY}"},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            made = Running(endpoint, process)
            made.wait_for_a_new("worker", 0)
            yield made
        finally:
            print((tmp_path / "serve.log").read_text())
            process.terminate()
            process.wait(3 * STOP_TIMEOUT)  # if the test failed, it may have to stop two servers that hang
            stop(endpoint.state)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_killed_and_stopped_processes_are_replaced(running: Running) -> None:
    """One test for all faults, because each start of TorchServe takes seconds."""
    with ThreadPoolExecutor(CLIENTS) as pool:
        clients = [pool.submit(running.run_client) for _ in range(CLIENTS)]
        try:
            fault(running, signal.SIGKILL, "worker")
            running.wait_for_answers()
            killed_worker = list(running.answers)
            fault(running, signal.SIGSTOP, "worker")
            fault(running, signal.SIGSTOP, "gateway", "java")
            fault(running, signal.SIGKILL, "gateway", "java")
        finally:
            running.ended = True
        for client in clients:
            client.result(timeout=BACK)
    assert {status for _, status in killed_worker} == {200}
    assert {status for _, status in running.answers} <= {200, 0}  # 0: of the gateway that was killed
    tree = [running.java(), running.worker(), running.gateway()]
    running.process.terminate()
    assert running.process.wait(60) == 0
    assert not [process for process in tree if is_alive(process)]


def fault(running: Running, number: signal.Signals, *roles: str) -> None:
    processes = {role: getattr(running, role)() for role in roles}
    for process in processes.values():
        process.send_signal(number)
    began = time.monotonic()
    for role, process in processes.items():
        running.wait_for_a_new(role, process.pid)
        assert not is_alive(process)
    print(f"{number.name} of {' and '.join(roles)}: answers after {time.monotonic() - began:.1f} s")


def test_a_taken_port_and_other_settings_of_a_running_gateway_are_refused(tmp_path: Path) -> None:
    settings = deploy_settings(tmp_path / "state")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = gateway_settings(port=other.getsockname()[1])
        refused = pytest.raises(ServingError, match=r"gateway.port: port \d+ is in use.*--set gateway.port=")
        with refused, started(taken, DECODE, NAME, settings):
            pytest.fail("it was started")
    assert stop(tmp_path / "state") == []
    endpoint = Endpoint(settings, gateway_settings(port=free_ports(1)[0]), DECODE, NAME)
    server = GatewayServer(endpoint)
    server.restart()
    try:
        endpoint.check_gateway()
        server.ask(10)
        assert server.is_running()
        changed = Endpoint(settings, endpoint.gateway.replace(max_files=3), DECODE, NAME)
        assert not GatewayServer(changed).is_running(), "audiocnn serve would start it anew"
        allowed = Endpoint(settings, endpoint.gateway, DecodeSettings(ffmpeg=True), NAME)
        assert not GatewayServer(allowed).is_running(), "a gateway that may not start ffmpeg"
        with pytest.raises(ServingError, match=r"other settings of the block gateway.*audiocnn down"):
            changed.check_gateway()
        answer = requests.get(f"{endpoint.gateway.url}/healthz", headers={"Host": "attacker.example:8000"}, timeout=10)
        assert (answer.status_code, answer.json()["reason"]) == (421, "wrong_host")
        assert requests.get(f"{endpoint.gateway.url}/healthz", headers={"Host": "localhost"}, timeout=10).ok
    finally:
        assert stop(endpoint.state) == ["the gateway"]


def test_a_deployment_that_fails_leaves_nothing_running(tmp_path: Path) -> None:
    endpoint = Endpoint(deploy_settings(tmp_path / "state"), gateway_settings(port=free_ports(1)[0]), DECODE, NAME)
    failed = pytest.raises(ServingError, match="the worker ended")
    with failed, started(endpoint.gateway, DECODE, NAME, endpoint.torchserve):
        assert endpoint.gateway_answers()
        supervisor = supervisor_process(endpoint.state).find()
        assert supervisor is not None
        with pytest.raises(ServingError, match=f"runs already as process {supervisor.pid}"):
            supervise(endpoint)
        assert "no model has been deployed yet" in supervisor_process(endpoint.state).log_file.read_text()
        processes = [supervisor, gateway_process(endpoint.state).find(), torchserve.find(endpoint.state)]
        raise ServingError("the worker ended")
    assert not [process for process in processes if process is None or is_alive(process)]


def test_a_gateway_that_other_machines_can_reach_needs_keys(tmp_path: Path) -> None:
    settings = gateway_settings(port=free_ports(1)[0], host="0.0.0.0")
    refused = pytest.raises(SettingsError, match=r"gateway.host: 0.0.0.0 can be reached from other machines")
    with refused, started(settings, DECODE, NAME, deploy_settings(tmp_path / "state")):
        pytest.fail("it was started")


def test_nothing_is_started_for_an_index_that_cannot_be_read(tmp_path: Path) -> None:
    endpoint = Endpoint(deploy_settings(tmp_path / "state"), gateway_settings(port=free_ports(1)[0]), DECODE, NAME)
    archives = tmp_path / "state" / ARCHIVE_FOLDER
    archives.mkdir(parents=True)
    (archives / INDEX).write_text("{")
    with pytest.raises(ModelStoreError, match="delete it and deploy again"):
        supervise(endpoint)
    assert list((tmp_path / "state").iterdir()) == [archives]
