"""Containers of TorchServe as processes: `serving.torchserve.start`, each on a loopback address of its own."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from helpers.project import ROOT
from serving.torchserve import worker_probe
from serving.torchserve.client import TorchServeClient

KEYS = "new-key old-key"
# In a container the ports are fixed, and 127.0.0.1 is its own.
PROGRAM = """
import sys
from serving.torchserve import start

start.INFERENCE, start.MANAGEMENT, metrics = sys.argv[1:]
start.LISTEN = {"inference": start.INFERENCE, "management": start.MANAGEMENT, "metrics": metrics}
start.COPY_INTERVAL, start.PROBE_TIMEOUT = 0.3, 5
sys.exit(start.main())
"""


@dataclass
class Container:
    """One container. Its writable folder is empty at each start.

    Attributes:
        address: its IP address.
        ports: of the APIs inference, management and metrics.
    """

    address: str
    ports: tuple[int, int, int]
    folder: Path
    model_store: str
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    starts: int = field(default=0, init=False)

    @property
    def client(self) -> TorchServeClient:
        inference, management, _ = self._urls
        return TorchServeClient(inference, management, key=KEYS.split()[0])

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def start(self) -> None:
        self.starts += 1
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "AUDIOCNN_MODEL_STORE": self.model_store,
            "AUDIOCNN_INFERENCE_KEYS": KEYS,
            "AUDIOCNN_TORCHSERVE_STATE": str(self.folder / f"{self.address}-{self.starts}"),
        }
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, *self._urls],
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_until_started(self) -> None:
        """Wait until the container serves, or waits for the first deploy."""
        assert self.process is not None
        deadline = time.monotonic() + 120
        while "[start] serves" not in self.log:
            assert self.process.poll() is None and time.monotonic() < deadline, self.log
            time.sleep(0.2)

    def kill_torchserve(self) -> int:
        """Kill Java, as the kernel does when memory runs out, and return the exit status of the container."""
        assert self.process is not None
        (java,) = psutil.Process(self.process.pid).children()
        java.kill()
        status = self.process.wait(60)
        self.kill()  # in a container, workers that are left end with its main process
        return status

    def suspend_worker(self) -> int:
        """Let a worker hang, and return the exit status of the container."""
        assert self.process is not None
        (java,) = psutil.Process(self.process.pid).children()
        worker_probe.workers(java)[0].suspend()
        status = self.process.wait(60)
        self.kill()
        return status

    def kill(self) -> None:
        """Kill all processes of the container."""
        assert self.process is not None
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(30)

    def stop(self) -> int:
        """Stop the container as Kubernetes does, and return its exit status."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(60)

    @property
    def _log(self) -> Path:
        return self.folder / f"{self.address}.log"

    @property
    def _urls(self) -> list[str]:
        return [f"http://{self.address}:{port}" for port in self.ports]
