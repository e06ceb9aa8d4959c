"""What `audiocnn serve` and the main process of a container take for a TorchServe that hangs."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from helpers.torchserve import deploy_settings

from serving.supervision import servers
from serving.supervision.servers import TorchServeServer
from serving.torchserve import start
from serving.torchserve.client import ServedVersion, ServingError
from serving.torchserve.worker_probe import BUSY, WORKER


class Client:
    """A client of a TorchServe whose worker is ready and answers no tone."""

    max_timeout = 0.0

    def __init__(self, worker: psutil.Process) -> None:
        self.worker = worker

    def list_models(self) -> list[str]:
        return ["sounds"]

    def list_versions(self, name: str) -> list[ServedVersion]:
        return [ServedVersion("1.1", ready_workers=1, worker_pids={"9000": 1})]

    def predict(self, clip: bytes, name: str) -> None:
        """Wait for as long as a worker that computes needs, on a busy machine too."""
        began = self.worker.cpu_times().user
        while self.worker.cpu_times().user < began + 2 * BUSY and self.worker.status() != psutil.STATUS_STOPPED:
            time.sleep(0.05)
        raise ServingError("no response")


def test_workers_that_are_busy_do_not_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = psutil.Process(os.getpid())
    monkeypatch.setattr(servers.torchserve, "find", lambda state: process)
    server = TorchServeServer(deploy_settings(tmp_path / "state"))
    monkeypatch.setattr(server, "_store", SimpleNamespace(index=lambda: SimpleNamespace(name="sounds")))
    with subprocess.Popen([sys.executable, "-c", "while True: pass", WORKER]) as worker:
        client: Any = Client(psutil.Process(worker.pid))
        monkeypatch.setattr(server, "_client", client)
        try:
            server.ask(10)
            assert not start.hangs(client, process)
            worker.send_signal(signal.SIGSTOP)
            with pytest.raises(ServingError, match="no response"):
                server.ask(10)
            assert start.hangs(client, process)
        finally:
            worker.kill()
