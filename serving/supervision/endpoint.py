"""The endpoint of this machine: how its gateway is started, and `audiocnn serve` in the background."""

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests

import audiocnn
from audiocnn.config import DecodeSettings
from mlops.process import POLL_INTERVAL, ManagedProcess, ProcessError, is_port_free
from mlops.settings import flatten
from serving.gateway.authentication import KEYS, configured_keys
from serving.gateway.settings import GatewaySettings
from serving.torchserve import launch
from serving.torchserve import server as torchserve
from serving.torchserve.client import ServingError
from serving.torchserve.settings import TorchServeSettings
from serving.torchserve.variables import INFERENCE_KEYS

ROOT = Path(audiocnn.__file__).parents[1]
START_TIMEOUT = 60.0  # s; the gateway needs 1 s on an idle laptop
ANSWER_TIMEOUT = 5.0  # s for GET /healthz


@dataclass(frozen=True)
class Endpoint:
    """A gateway, the TorchServe behind it, and the name of the model that they serve."""

    torchserve: TorchServeSettings
    gateway: GatewaySettings
    decode: DecodeSettings
    model: str

    @property
    def state(self) -> Path:
        """Folder for the state and the logs of all processes."""
        return Path(self.torchserve.state).resolve()

    def command(self, module: str) -> list[str]:
        """Return the command that runs a module with these settings, whatever params.yaml says later."""
        names = TorchServeSettings.model_fields
        blocks = {
            "deploy": {name: getattr(self.torchserve, name) for name in names} | {"state": str(self.state)},
            "gateway": self.gateway.to_dict(),
            "decode": self.decode.to_dict(),
            "register": {"name": self.model},
        }
        values = {key: json.dumps(value, ensure_ascii=False) for key, value in flatten(blocks).items()}  # JSON is YAML
        assignments = [f"--set={key}={value}" for key, value in values.items()]
        return [sys.executable, "-m", module, f"--params={ROOT / 'params.yaml'}", *assignments]

    @property
    def gateway_command(self) -> list[str]:
        """The command of the gateway."""
        return self.command("serving.gateway")

    def gateway_answers(self, timeout: float = ANSWER_TIMEOUT) -> bool:
        """Return whether the gateway runs; a model need not be ready."""
        with requests.Session() as session:
            session.trust_env = False  # a proxy cannot reach this machine
            try:
                return session.get(f"{self.gateway.url}/healthz", timeout=timeout).ok
            except requests.RequestException:
                return False

    def check_gateway(self) -> None:
        """Check that the gateway can be started, or runs with these settings.

        Raises:
            ServingError: it runs with others, or another program uses its port.
            SettingsError: it could be reached from other machines without a key, or its keys are malformed.
        """
        configured_keys(self.gateway)
        running = gateway_process(self.state).find()
        if running is not None and running.cmdline() != self.gateway_command:
            raise ServingError(
                f"{self.state}: the gateway runs with other settings of the block gateway or decode, or for another "
                "model or TorchServe; stop it with `audiocnn down`, then deploy again"
            )
        if running is None and not is_port_free(self.gateway.port):
            raise ServingError(
                f"gateway.port: port {self.gateway.port} is in use by another program; stop it, or choose a free one: "
                '--set gateway.port=8001 (with `make demo`: ARGS="--set ...")'
            )


def supervisor_process(state: Path) -> ManagedProcess:
    """Return `audiocnn serve` of a state folder."""
    return ManagedProcess("audiocnn serve", state / "serve.json", state / "logs" / "serve.log")


def gateway_process(state: Path) -> ManagedProcess:
    """Return the gateway of a state folder."""
    return ManagedProcess("the gateway", state / "gateway.json", state / "logs" / "gateway.log")


def gateway_environment() -> dict[str, str]:
    """Return the environment variables of the gateway: those of TorchServe and keys, but no other credentials."""
    names = (*launch.INHERITED, KEYS, INFERENCE_KEYS)
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return {**{name: os.environ[name] for name in names if name in os.environ}, "PYTHONPATH": path}


@contextmanager
def started(
    gateway: GatewaySettings, decode: DecodeSettings, model: str, settings: TorchServeSettings
) -> Iterator[None]:
    """Start TorchServe, and beside it `audiocnn serve` in the background, which starts the gateway, for a block.

    If the block fails and TorchServe did not run before, all are stopped.
    """
    endpoint = Endpoint(settings, gateway, decode, model)
    was_running = torchserve.find(endpoint.state) is not None
    endpoint.check_gateway()
    try:
        supervisor = supervisor_process(endpoint.state)
        if supervisor.find() is None:
            supervisor.spawn(endpoint.command("serving.supervision"), endpoint.gateway.url)
        torchserve.start(settings)
        _wait_for_gateway(endpoint, supervisor)
        yield
    except BaseException:
        if not was_running:
            stop(endpoint.state)
        raise


def _wait_for_gateway(endpoint: Endpoint, supervisor: ManagedProcess) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while not endpoint.gateway_answers():
        if supervisor.find() is None or time.monotonic() > deadline:
            raise ProcessError(f"the gateway did not start: {supervisor.log_tail()} (log: {supervisor.log_file})")
        time.sleep(POLL_INTERVAL)
    print(f"[deploy] the gateway answers at {endpoint.gateway.url}", flush=True)


def stop(state: Path) -> list[str]:
    """Stop everything that belongs to a state folder; return the names of the servers that ran."""
    state = state.resolve()
    names = [name for name, process in servers(state).items() if process is not None]
    # First, since it would restart the others.
    if supervisor_process(state).stop() and not names:
        names = ["audiocnn serve"]
    gateway_process(state).stop()
    torchserve.stop(state)
    return names


def servers(state: Path) -> dict[str, object]:
    """Return the processes of a state folder by name, None for one that does not run."""
    state = state.resolve()
    return {"the gateway": gateway_process(state).find(), "TorchServe": torchserve.find(state)}
