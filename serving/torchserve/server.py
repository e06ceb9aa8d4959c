"""Start and stop TorchServe on this machine.

A state folder belongs to one TorchServe. It contains model-store/, logs/, tmp/, config.properties, process.json and
key_file.json; each start creates them anew where needed. TorchServe's snapshots are off: after a reboot the next deploy
starts it with the champion of the registry, not with the models that were loaded last.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from mlops.process import ManagedProcess, is_port_free
from serving.torchserve import launch
from serving.torchserve.client import KEY_FILE, ServingError, TorchServeClient, environment_key, read_key
from serving.torchserve.settings import ADDRESSES, TorchServeSettings

START_TIMEOUT = 120.0  # s; Java needs 3 s on an idle laptop


def start(settings: TorchServeSettings) -> psutil.Process:
    """Start TorchServe and wait until it is ready. A running one with the same settings is returned as it is."""
    state = Path(settings.state).resolve()
    managed = _managed(state)
    if (process := check_startable(settings)) is not None:
        managed.wait_until_ready(lambda: _is_healthy(settings), START_TIMEOUT)
        return process
    print(f"[deploy] starting TorchServe at {settings.inference} (state in {state})", flush=True)
    began = time.monotonic()
    launch.prepare(state, launch.render_config(state, settings))
    process = managed.start(
        launch.command(state),
        settings.management,
        lambda: _is_healthy(settings),
        START_TIMEOUT,
        launch.environment(state),
        state,  # TorchServe writes its key file to the working directory
    )
    print(f"[deploy] TorchServe is ready after {time.monotonic() - began:.1f} s, process {process.pid}", flush=True)
    return process


def check_startable(settings: TorchServeSettings) -> psutil.Process | None:
    """Return the TorchServe that runs with these settings, or None if one can be started."""
    state = Path(settings.state).resolve()
    if (process := find(state)) is None:
        _check_addresses(settings)
    elif (state / launch.CONFIG_FILE).read_text(encoding="utf-8") != launch.render_config(state, settings):
        raise ServingError(
            f"{state}: TorchServe runs with other addresses or limits than the block deploy of the settings; stop it "
            "with `audiocnn down`, then deploy again"
        )
    return process


@contextmanager
def started(settings: TorchServeSettings) -> Iterator[None]:
    """Start TorchServe for a block. If the block fails, a TorchServe that did not run before is stopped."""
    state = Path(settings.state)
    was_running = find(state) is not None
    try:
        start(settings)
        yield
    except BaseException:
        if not was_running:
            stop(state)
        raise


def stop(state: Path, kill: bool = False) -> bool:
    """Stop the TorchServe of a state folder with its workers; return False if it was not running.

    Args:
        kill: do not wait for processes that hang.
    """
    stopped = _managed(state).stop(kill)
    (state / KEY_FILE).unlink(missing_ok=True)
    launch.remove_temporary_folder(state)
    return stopped


def find(state: Path) -> psutil.Process | None:
    """Return the running TorchServe of a state folder, None if there is none."""
    return _managed(state).find()


def inference_key(state: Path) -> str:
    """Return the token for the header `Authorization: Bearer ...` of the inference API.

    It is that of the state folder, or for a TorchServe in a container the first one of the environment.
    """
    if not (state / KEY_FILE).is_file() and (key := environment_key()):
        return key
    return read_key(state / KEY_FILE, "inference")


def _managed(state: Path) -> ManagedProcess:
    return ManagedProcess("TorchServe", state / "process.json", state / "logs" / "output.log")


def _check_addresses(settings: TorchServeSettings) -> None:
    """Check that the addresses are on loopback and their ports are free."""
    for key in ADDRESSES:
        address = getattr(settings, key)
        url = urlsplit(address)
        if url.scheme != "http" or url.port is None or url.hostname not in ("127.0.0.1", "localhost"):
            raise ServingError(
                f"deploy.{key}: {address} is not an address like http://127.0.0.1:PORT, which a TorchServe that is "
                "started here needs (it takes no IPv6 address); set deploy.start=false to use one that runs elsewhere"
            )
        if not is_port_free(url.port):
            raise ServingError(
                f"deploy.{key}: port {url.port} is in use by another program; stop it, or choose free ports: "
                "--set deploy.inference=http://127.0.0.1:9080 --set deploy.management=http://127.0.0.1:9081 "
                "--set deploy.metrics=http://127.0.0.1:9082, and --set gateway.port=9000 unless port "
                '8000 is free (with `make demo`: ARGS="--set ...")'
            )


def _is_healthy(settings: TorchServeSettings) -> bool:
    """Return whether the management API accepts the key of the state folder. /ping would fail for a dead worker."""
    client = TorchServeClient.from_settings(settings)
    try:
        client.list_models()
    except ServingError:
        return False
    return (Path(settings.state) / KEY_FILE).is_file()
