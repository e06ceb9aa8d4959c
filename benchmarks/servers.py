"""Start the servers that `make bench-serve` compares, on loopback, and stop them."""

import base64
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from zipfile import ZipFile

import psutil
import requests

from mlops.process import ManagedProcess
from pipeline.settings import PipelineSettings
from serving.supervision.endpoint import Endpoint
from serving.torchserve import launch
from serving.torchserve import server as torchserve
from serving.torchserve.archive import build_archive
from serving.torchserve.client import TorchServeClient
from serving.torchserve.model_store import index_of
from serving.torchserve.settings import ADDRESSES, ARCHIVE_FOLDER, ModelSettings

START_TIMEOUT = 120.0  # s
# What TorchServe ran before there were backends: the network as PyTorch trained it.
EAGER = "\nfrom audiocnn.classifier import Classifier\n\nload = Classifier.load\n"


@dataclass(frozen=True)
class Server:
    """One of the servers.

    Attributes:
        send: sends a sound file and returns the response.
        process_group: of a server that uses the CPU without requests: stopped outside of the blocks of `running`.
    """

    url: str
    send: Callable[[requests.Session, bytes], requests.Response]
    process_group: int | None = None

    @contextmanager
    def running(self) -> Iterator[None]:
        """Let the server run in a block."""
        if self.process_group is not None:
            os.killpg(self.process_group, signal.SIGCONT)
        yield
        if self.process_group is not None:
            os.killpg(self.process_group, signal.SIGSTOP)


def free_ports(count: int) -> list[int]:
    """Return different ports on which no server listens."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def free_addresses() -> dict[str, str]:
    """Return addresses for the APIs of a TorchServe, by the name of the setting."""
    return {name: f"http://127.0.0.1:{port}" for name, port in zip(ADDRESSES, free_ports(len(ADDRESSES)), strict=True)}


@contextmanager
def torchserve_with(
    settings: PipelineSettings, model: Path, configurations: Mapping[str, ModelSettings]
) -> Iterator[dict[str, Server]]:
    """Serve a model in several configurations, by name, each with its own worker; `before` runs the eager network."""
    state = Path(settings.deploy.state)
    store = state / ARCHIVE_FOLDER
    torchserve.start(settings.deploy)
    try:
        client = TorchServeClient.from_settings(settings.deploy)
        headers = {"Authorization": f"Bearer {torchserve.inference_key(state)}"}
        servers = {}
        for name, chosen in configurations.items():
            archive = build_archive(model, name, 1, store, chosen)
            if name == "before":
                _append(archive, "handler.py", EAGER)
            client.register(index_of(archive, name, 1, chosen))
            servers[name] = binary(client.prediction_url(name), headers)
        yield servers
    finally:
        torchserve.stop(state)


@contextmanager
def gateway(settings: PipelineSettings, name: str, port: int, log: Path) -> Iterator[Server]:
    """Start the gateway in front of one model of the TorchServe."""
    url = f"http://127.0.0.1:{port}"
    endpoint = Endpoint(settings.deploy, settings.gateway.replace(port=port), settings.decode, name)
    with _process(endpoint.gateway_command[1:], url, "/healthz", log):
        yield binary(f"{url}/classify", {})


@contextmanager
def fastapi(model: Path, port: int, log: Path) -> Iterator[Server]:
    """Start FastAPI around a model folder."""
    url = f"http://127.0.0.1:{port}"
    with _process(["-m", "benchmarks.fastapi_server", str(model), str(port)], url, "/docs", log):
        yield binary(f"{url}/classify", {})


@contextmanager
def litserve(archive: Path, threads: int, port: int, log: Path) -> Iterator[Server]:
    """Start LitServe around an unpacked archive; it decodes in so many threads, with 0 in its worker's own."""
    url = f"http://127.0.0.1:{port}"
    arguments = ["-m", "benchmarks.litserve_server", str(archive), str(port), str(threads)]
    with _process(arguments, url, "/health", log) as process:
        server = Server(f"{url}/classify", _base64(f"{url}/classify"), process.pid)  # its worker polls for requests
        os.killpg(process.pid, signal.SIGSTOP)
        yield server


def binary(url: str, headers: Mapping[str, str]) -> Server:
    """Return a server that takes a sound file as the body of the request."""
    sent = {"Content-Type": "application/octet-stream", **headers}
    return Server(url, lambda session, clip: session.post(url, data=clip, headers=sent, timeout=60))


def _base64(url: str) -> Callable[[requests.Session, bytes], requests.Response]:
    def send(session: requests.Session, clip: bytes) -> requests.Response:
        return session.post(url, json={"audio": base64.b64encode(clip).decode()}, timeout=60)

    return send


def _append(archive: Path, member: str, text: str) -> None:
    with ZipFile(archive) as original:
        members = {name: original.read(name) for name in original.namelist()}
    members[member] += text.encode()
    with ZipFile(archive, "w") as changed:
        for name, content in members.items():
            changed.writestr(name, content)


@contextmanager
def _process(arguments: list[str], url: str, path: str, log: Path) -> Iterator[psutil.Process]:
    """Run a Python program with the environment of TorchServe's workers until the end of the block.

    Args:
        path: at which the server answers as soon as it is ready.
    """
    shared = {name: launch.environment(log.parent)[name] for name in ("OMP_WAIT_POLICY", "OMP_NUM_THREADS")}
    managed = ManagedProcess(log.stem, log.with_suffix(".json"), log)

    def answers() -> bool:
        try:
            return requests.get(url + path, timeout=2).ok
        except requests.RequestException:
            return False

    process = managed.start([sys.executable, *arguments], url, answers, START_TIMEOUT, {**os.environ, **shared})
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGCONT)  # a stopped process does not end
        managed.stop()
