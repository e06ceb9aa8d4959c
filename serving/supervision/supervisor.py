"""Keep servers running: detect one that ended or hangs, and restart it, more slowly if that does not help."""

import os
import time
from collections.abc import Callable, Sequence

from filelock import Timeout

from audiocnn.errors import AudioCNNError
from serving.supervision.endpoint import Endpoint, gateway_process, supervisor_process
from serving.supervision.servers import GatewayServer, Recovering, Server, TorchServeServer
from serving.torchserve import server as torchserve
from serving.torchserve.client import ServingError
from serving.torchserve.model_store import ModelStore
from serving.torchserve.settings import ARCHIVE_FOLDER

INTERVAL = 1.0  # s between two checks
UNANSWERED = 20.0  # s without an answer after which a server hangs
MIN_TIMEOUT = 3.0  # s for a response in any case: while another server was restarted, this one was not asked
RECOVERY = 120.0  # s for TorchServe to restart a worker itself, which takes 3 to 14 s on two idle cores
STABLE = 60.0  # s after a restart; after a longer time, the next failure is a new one
MAX_PAUSE = 60.0  # s between two restarts


class Watch:
    """Restarts one server when it is needed.

    The pause between two restarts doubles from 1 s to MAX_PAUSE, until the server has worked for STABLE.
    """

    def __init__(self, server: Server, clock: Callable[[], float] = time.monotonic) -> None:
        self._server, self._clock = server, clock
        self._answered = self._responded = clock()  # a server that recovers responds, but does not answer
        self._restarted = clock()
        self._restarts = 0  # since it was stable

    def check(self) -> None:
        """Ask the server, and restart it if it does not run, hangs for UNANSWERED, or recovers for RECOVERY."""
        if not self._server.is_running():
            self._restart("was not running")
            return
        try:
            self._server.ask(max(MIN_TIMEOUT, self._responded + UNANSWERED - self._clock()))
        except (AudioCNNError, OSError) as error:
            patience, since = UNANSWERED, self._responded
            if isinstance(error, Recovering):
                self._responded = self._clock()
                patience, since = RECOVERY, self._answered
            if self._clock() - since > patience:
                self._restart(f"has not answered for {patience:g} s ({error})")
            return
        self._answered = self._responded = self._clock()
        if self._answered - self._restarted > STABLE:
            self._restarts = 0

    @property
    def _pause(self) -> float:
        return min(MAX_PAUSE, 2.0 ** (self._restarts - 1)) if self._restarts else 0.0

    def _restart(self, problem: str) -> None:
        name, began = self._server.name, self._clock()
        if began < self._restarted + self._pause:
            return
        try:
            self._server.restart()
            result = f"started in {self._clock() - began:.1f} s"
        except Timeout:  # the deploy starts it, or leaves it to the next check
            return
        except (AudioCNNError, OSError) as error:
            result = f"the start failed: {error}"
        self._restarts += 1
        self._restarted = self._answered = self._responded = self._clock()
        pause = f"; the next start not before {self._pause:g} s" if self._restarts > 1 else ""
        print(f"[serve] {name} {problem}; {result}{pause}", flush=True)


def supervise(endpoint: Endpoint, with_torchserve: bool = True) -> None:
    """Run the gateway and TorchServe until Ctrl-C or, in a program that turns them into it, SIGTERM.

    Args:
        with_torchserve: run TorchServe too; it does not run elsewhere.
    Raises:
        ServingError: they run already, or cannot be started because of their settings.
        ModelStoreError: the index of the deployed version cannot be read.
    """
    process = supervisor_process(endpoint.state)
    running = process.find()
    if running is not None and running.pid != os.getpid():
        raise ServingError(f"audiocnn serve runs already as process {running.pid}; `audiocnn down` stops it")
    if with_torchserve:
        torchserve.check_startable(endpoint.torchserve)
        if ModelStore(str(endpoint.state / ARCHIVE_FOLDER)).index() is None:
            print("[serve] no model has been deployed yet: `audiocnn deploy` deploys the champion", flush=True)
    endpoint.check_gateway()
    process.register(os.getpid(), endpoint.gateway.url)
    watched: Sequence[Server] = [GatewayServer(endpoint)]
    if with_torchserve:
        watched = [*watched, TorchServeServer(endpoint.torchserve)]
    watches = [Watch(server) for server in watched]
    print(f"[serve] {endpoint.gateway.url}; logs in {endpoint.state / 'logs'}", flush=True)
    try:
        while True:
            for watch in watches:
                watch.check()
            time.sleep(INTERVAL)
    except KeyboardInterrupt:
        print("[serve] stopping", flush=True)
    finally:
        gateway_process(endpoint.state).stop()
        if with_torchserve:
            torchserve.stop(endpoint.state)
        process.state_file.unlink(missing_ok=True)
