"""The servers that the command line starts on this machine, and how each is stopped: by its own process id."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import requests

from audiocnn.atomic import atomic_file
from audiocnn.errors import AudioCNNError
from components.deploy.settings import DeploySettings
from mlops.tracking import server as tracking_server
from pipeline.run import LOGS
from serving.torchserve import server as process

PAGE = Path("var/mlflow-page.json")  # the process that serves MLflow's page, and where
PORTS = range(5000, 5020)
START_SECONDS = 90
STOP_SECONDS = 15


class ServerError(AudioCNNError):
    """A server that does not start."""


@dataclass(frozen=True)
class Server:
    """One that runs: its process id, when that process began (numbers are used again), its address."""

    pid: int
    began: float
    url: str


def mlflow_page() -> str:
    """The address of MLflow's page; on this machine's own records it is served here, once, until `stop`.

    Raises:
        ServerError: it does not come up.
    """
    elsewhere = os.environ.get(tracking_server.URI, "")
    if elsewhere.startswith(("http://", "https://")):
        return tracking_server.shown(elsewhere)
    if (running := _running()) is not None:
        return running.url
    store = elsewhere or f"sqlite:///{tracking_server.DATABASE.resolve()}"
    port = next((port for port in PORTS if _free(port)), None)
    if port is None:
        raise ServerError(f"no free port between {PORTS.start} and {PORTS.stop - 1} for MLflow's page; free one")
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / "mlflow-page.log"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--backend-store-uri", store]
    # Its job runners are seven processes for features that nothing here uses.
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with log.open("w", encoding="utf-8") as output:
        # A session of its own: it goes on when this command ends, and Ctrl-C in the terminal is not for it.
        started = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=environment,
        )
    server = Server(started.pid, psutil.Process(started.pid).create_time(), f"http://127.0.0.1:{port}")
    try:
        _wait(server, started, log)
        with atomic_file(PAGE) as part:
            part.write_text(json.dumps(vars(server)), encoding="utf-8")
    except BaseException:
        _end(server)
        raise
    return server.url


def stop(settings: DeploySettings) -> list[str]:
    """Stop what was started here; the names of what ran. Harmless to repeat."""
    stopped = []
    if process.stop(Path(settings.state)):
        stopped.append("TorchServe")
    if (page := _running()) is not None:
        _end(page)
        stopped.append("MLflow's page")
    PAGE.unlink(missing_ok=True)
    return stopped


def check(settings: DeploySettings) -> None:
    """What would keep a deploy from having its TorchServe, to be known before the alias champion moves.

    Raises:
        ServingError: as serving.process.check; one that runs elsewhere is not asked.
    """
    if settings.start:
        process.check(settings)


@contextmanager
def no_stray(settings: DeploySettings) -> Iterator[None]:
    """Stop a TorchServe that an interrupted block has started; one that ran before stays."""
    state = Path(settings.state)
    ran = process.find(state) is not None
    try:
        yield
    except KeyboardInterrupt:
        if not ran:
            process.stop(state)
        raise


def _running() -> Server | None:
    try:
        server = Server(**json.loads(PAGE.read_text(encoding="utf-8")))
        same = psutil.Process(server.pid).create_time() == server.began
    except (OSError, ValueError, TypeError, psutil.Error):
        return None
    return server if same else None


def _wait(server: Server, started: subprocess.Popen[bytes], log: Path) -> None:
    began = time.monotonic()
    while time.monotonic() - began < START_SECONDS and started.poll() is None:
        try:
            # Another process may have taken the port meanwhile: its answer says nothing of this server.
            if requests.get(f"{server.url}/health", timeout=2).ok and _listens(server):
                return
        except requests.RequestException:
            pass
        time.sleep(0.3)
    raise ServerError(f"MLflow's page did not come up at {server.url}; {log} says why")


def _listens(server: Server) -> bool:
    port = urlsplit(server.url).port
    sockets = [socket for one in _tree(server) for socket in one.net_connections("tcp")]
    return any(socket.status == psutil.CONN_LISTEN and socket.laddr.port == port for socket in sockets)


def _tree(server: Server) -> list[psutil.Process]:
    try:
        main = psutil.Process(server.pid)
        return [main, *main.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _end(server: Server) -> None:
    tree = _tree(server)
    for one in tree:
        with suppress(psutil.NoSuchProcess):
            one.terminate()
    _, alive = psutil.wait_procs(tree, timeout=STOP_SECONDS)
    for one in alive:
        with suppress(psutil.NoSuchProcess):
            one.kill()


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return probe.connect_ex(("127.0.0.1", port)) != 0
