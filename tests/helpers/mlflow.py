"""MLflow runs, a real MLflow server on loopback, and a proxy that can cut the connection to it."""

import os
import select
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

import mlflow
import pytest
import requests

from helpers.torchserve import free_ports
from mlops import tracking

START_TIMEOUT = 240.0  # s, on a busy machine
LINEAGE = tracking.Lineage("ab" * 32, "demo", 40)


def start(**params: object) -> tracking.Run:
    """Create a run with two parameters and `params`."""
    return tracking.start_run("a run", {"train": {"epochs": 3, "lr": 0.1}, **params}, {"note": "x"}, LINEAGE)


def recorded(run: tracking.Run) -> mlflow.entities.Run:
    """Return the run as MLflow has recorded it."""
    return tracking.connect().client.get_run(run.run_id)


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a server and yield its URL; artifacts are proxied. Tests that use it are in the xdist group `mlflow`."""
    folder = tmp_path_factory.mktemp("server")
    database, store = f"sqlite:///{folder}/server.db", str(folder / "store")
    with running_server(folder, "--backend-store-uri", database, "--artifacts-destination", store) as url:
        yield url


@contextmanager
def running_server(folder: Path, *options: str, **variables: str) -> Iterator[str]:
    """Start `mlflow server` in a folder, wait until it answers, and yield its URL."""
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            [*command, *options],
            cwd=folder,
            env={**inherited, **quiet, **variables},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        _wait(process, f"http://127.0.0.1:{port}", folder / "log.txt")
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGTERM)  # the server and its workers
        process.wait(timeout=30)


def _wait(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while server.poll() is None and time.monotonic() < deadline:
        try:
            requests.get(f"{url}/health", timeout=5)
            return
        except requests.RequestException:
            time.sleep(0.5)
    raise AssertionError(f"the server did not start: {log.read_text()}")


class Proxy:
    """Forwards connections to a server; after `cut` is set, open connections break and new ones are closed."""

    def __init__(self, port: int) -> None:
        self.cut = threading.Event()
        proxy = self

        class Connection(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                if not proxy.cut.is_set():
                    with suppress(OSError), socket.create_connection(("127.0.0.1", port)) as server:
                        proxy._forward(self.request, server)

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Connection)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.cut.set()
        self._server.shutdown()
        self._server.server_close()

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        while not self.cut.is_set():
            for source in select.select([client, server], [], [], 0.05)[0]:
                if not (content := source.recv(65536)):
                    return
                (server if source is client else client).sendall(content)
