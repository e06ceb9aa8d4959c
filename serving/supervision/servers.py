"""The two servers that `audiocnn serve` watches: how each is asked whether it works, and how it is restarted."""

import time
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from filelock import FileLock

from mlops.process import POLL_INTERVAL, is_port_free
from serving.supervision.endpoint import ANSWER_TIMEOUT, START_TIMEOUT, Endpoint, gateway_environment, gateway_process
from serving.torchserve import server as torchserve
from serving.torchserve.client import LOG_HINT, ServingError, TorchServeClient
from serving.torchserve.model_store import DEPLOY_LOCK, ModelStore, verify
from serving.torchserve.registration import ensure_registered
from serving.torchserve.settings import ARCHIVE_FOLDER, TorchServeSettings
from serving.torchserve.worker_probe import classify_tone

PROBE_TIMEOUT = 7.5  # s for each response of TorchServe, such as the answer to a tone
REGISTER_TIMEOUT = 20.0  # s for a TorchServe that was just started, which may hang too, to unpack the archive
RELEASE_TIMEOUT = 10.0  # s for the port of a killed process to become free


class Recovering(ServingError):
    """A server that does not answer, but is about to do so without a restart."""


class Server(Protocol):
    """A server that is watched. The last two methods raise AudioCNNError or OSError.

    Attributes:
        name: for messages.
    """

    name: str

    def is_running(self) -> bool:
        """Return whether its process exists."""

    def ask(self, timeout: float) -> None:
        """Ask something that only a working server answers; wait at most `timeout` s for a response."""

    def restart(self) -> None:
        """Kill what is left of it, and start it.

        Raises:
            Timeout: of filelock: a deploy changes it just now.
        """


class TorchServeServer:
    """TorchServe with the version that the index of its model store names."""

    name = "TorchServe"

    def __init__(self, settings: TorchServeSettings) -> None:
        self._settings = settings
        self._state = Path(settings.state).resolve()
        self._archives = self._state / ARCHIVE_FOLDER
        self._store = ModelStore(str(self._archives))
        self._client = TorchServeClient.from_settings(settings)
        self._answered = False  # the last tone

    def is_running(self) -> bool:
        return torchserve.find(self._state) is not None

    def ask(self, timeout: float) -> None:
        """Let the model classify a tone. TorchServe calls itself healthy while its worker hangs."""
        self._client.max_timeout = min(PROBE_TIMEOUT, timeout)
        index = self._store.index()
        if index is None:
            self._client.list_models()
            return
        if not self._answered:  # before the tone: only one request shall wait for a TorchServe that hangs
            versions = self._client.list_versions(index.name)
            if versions and not any(version.ready_workers for version in versions):
                raise Recovering(f"no worker is ready; {LOG_HINT}")  # of one that hangs, TorchServe says READY
        self._answered = False
        self._answered = classify_tone(self._client, index.name, torchserve.find(self._state))

    def restart(self) -> None:
        """Start TorchServe and its workers. They load the model afterwards, when ask() notices if TorchServe hangs."""
        self._archives.mkdir(parents=True, exist_ok=True)
        with FileLock(self._archives / DEPLOY_LOCK, timeout=0):
            torchserve.stop(self._state, kill=True)  # a process that hangs does not end by itself
            _wait_for_port(self._settings.inference)
            torchserve.start(self._settings)
            if (index := self._store.index()) is not None:
                verify(self._archives / index.archive, index)
                client = TorchServeClient.from_settings(self._settings, REGISTER_TIMEOUT)
                ensure_registered(client, index, wait=False)


class GatewayServer:
    """The gateway."""

    name = "the gateway"

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._process = gateway_process(endpoint.state)

    def is_running(self) -> bool:
        found = self._process.find()
        return found is not None and found.cmdline() == self._endpoint.gateway_command

    def ask(self, timeout: float) -> None:
        if not self._endpoint.gateway_answers(min(ANSWER_TIMEOUT, timeout)):
            raise ServingError(f"no answer from {self._endpoint.gateway.url}/healthz")

    def restart(self) -> None:
        self._process.stop(kill=True)
        _wait_for_port(self._endpoint.gateway.url)
        self._endpoint.check_gateway()
        self._process.start(
            self._endpoint.gateway_command,
            self._endpoint.gateway.url,
            self._endpoint.gateway_answers,
            START_TIMEOUT,
            gateway_environment(),
        )


def _wait_for_port(url: str) -> None:
    """Wait until the port of a killed process is free; otherwise the start reports that another program uses it."""
    port, deadline = urlsplit(url).port, time.monotonic() + RELEASE_TIMEOUT
    while port is not None and not is_port_free(port) and time.monotonic() < deadline:
        time.sleep(POLL_INTERVAL)
