"""The main process of a container: `python -m serving.torchserve.start` runs TorchServe in the foreground.

It copies the archives of the model store, starts TorchServe, registers the version that the store's index names, and
keeps copying, so that the step deploy can register archives by their name. Without an index TorchServe runs and serves
nothing, which the probe `serving.torchserve.ready` reports, until the first deploy. If TorchServe or a worker hangs,
this process ends, because Docker restarts only what has ended. The variables are in `serving.torchserve.variables`.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil

from audiocnn.errors import AudioCNNError
from mlops.runtime import sigterm_as_exit
from mlops.storage import StorageError
from serving.torchserve import launch, variables
from serving.torchserve.client import ServingError, TorchServeClient, environment_key
from serving.torchserve.model_store import ModelStore, verify
from serving.torchserve.registration import ensure_registered
from serving.torchserve.settings import ARCHIVE_FOLDER, TorchServeSettings
from serving.torchserve.worker_probe import classify_tone

INFERENCE, MANAGEMENT = "http://127.0.0.1:8080", "http://127.0.0.1:8081"  # as this container sees them
LISTEN = {"inference": "http://0.0.0.0:8080", "management": "http://0.0.0.0:8081", "metrics": "http://0.0.0.0:8082"}
DEFAULT_STATE = "var/torchserve"
DEFAULT_MAX_REQUEST_BYTES = 10 * 2**20
START_TIMEOUT = 120.0  # s for TorchServe to answer
STOP_TIMEOUT = 30.0  # s for TorchServe to end after SIGTERM
COPY_INTERVAL = 5.0  # s
PROBE_TIMEOUT = 12.0  # s for the answer to a tone
MAX_UNANSWERED = 2  # tones in a row: TorchServe leaves requests of a killed worker without an answer


class StartError(AudioCNNError):
    """A missing or malformed variable, or a TorchServe that does not start."""


def settings_from(environment: Mapping[str, str]) -> TorchServeSettings:
    """Return the settings of the container's TorchServe."""
    for name, content in (
        (variables.MODEL_STORE, "a folder or s3://bucket/prefix"),
        (variables.INFERENCE_KEYS, "the keys that clients may send, separated by spaces"),
    ):
        if not environment.get(name, "").strip():
            raise StartError(f"{name} is not set; set it to {content}")
    limit = environment.get(variables.MAX_REQUEST_BYTES, str(DEFAULT_MAX_REQUEST_BYTES))
    block = {
        **LISTEN,
        "state": environment.get(variables.STATE) or DEFAULT_STATE,
        "max_request_bytes": int(limit) if limit.isdecimal() else limit,
    }
    return TorchServeSettings.parse(block, variables.MAX_REQUEST_BYTES)


def serve(settings: TorchServeSettings, store: ModelStore, client: TorchServeClient) -> int:
    """Run TorchServe until it ends or this process is stopped, and return its exit status.

    Args:
        settings: the addresses at which it listens, its state folder and limits.
        client: of this TorchServe.
    """
    state = Path(settings.state).resolve()
    launch.prepare(state, launch.render_config(state, settings, token_authorization=False))
    archives = state / ARCHIVE_FOLDER
    index = store.index()
    store.copy_archives(archives)
    if index is not None:
        verify(archives / index.archive, index)
    with _torchserve(state) as java:
        _wait_until_started(java, client)
        if index is not None:
            ensure_registered(client, index)
        _print("serves " + (f"{index.name} version {index.version}" if index else "no model until the first deploy"))
        while java.poll() is None:
            _check(java, client)
            try:
                store.copy_archives(archives)
            except (StorageError, OSError) as error:  # what is registered does not need the store
                _print(str(error))
        return java.returncode or 1


def _check(java: subprocess.Popen[bytes], client: TorchServeClient) -> None:
    """Wait for COPY_INTERVAL, and end Java if it or a worker hangs."""
    probe = TorchServeClient(client.inference, client.management, key=environment_key(), max_timeout=PROBE_TIMEOUT)
    for _ in range(MAX_UNANSWERED):
        time.sleep(COPY_INTERVAL)
        if java.poll() is not None or not hangs(probe, psutil.Process(java.pid)):
            return
    java.kill()  # it would not end by itself
    raise StartError(f"TorchServe hangs: no answer to {MAX_UNANSWERED} requests, {PROBE_TIMEOUT:g} s each")


def hangs(client: TorchServeClient, process: psutil.Process) -> bool:
    """Return whether TorchServe, or a worker that it calls ready, gives no answer at all, and computes nothing."""
    try:
        for name in client.list_models():
            if any(version.ready_workers for version in client.list_versions(name)):
                classify_tone(client, name, process)
    except ServingError as error:
        return error.status == 0
    return False


@contextmanager
def _torchserve(state: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start TorchServe, and stop it at the end of the block."""
    keys = {variables.INFERENCE_KEYS: os.environ.get(variables.INFERENCE_KEYS, "")}  # read by the handler
    command, environment = launch.command(state, "log4j2-stdout.xml"), {**launch.environment(state), **keys}
    with subprocess.Popen(command, env=environment, cwd=state) as java:
        try:
            yield java
        finally:
            java.terminate()
            try:
                java.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                java.kill()


def _wait_until_started(java: subprocess.Popen[bytes], client: TorchServeClient) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while java.poll() is None and time.monotonic() < deadline:
        try:
            client.list_models()
            return
        except ServingError:
            time.sleep(0.2)
    problem = "ended" if java.poll() is not None else f"does not answer after {START_TIMEOUT:g} s"
    raise StartError(f"TorchServe {problem}; see its output above")


def _print(message: str) -> None:
    print(f"[start] {message}", flush=True)


def main() -> int:
    """Serve, and return the exit status."""
    try:
        with sigterm_as_exit():
            settings = settings_from(os.environ)
            client = TorchServeClient(INFERENCE, MANAGEMENT)
            return serve(settings, ModelStore(os.environ[variables.MODEL_STORE]), client)
    except AudioCNNError as error:
        problem = str(error)
    except OSError as error:
        problem = f"{error}; {variables.STATE} has to be a folder that this user can write to"
    print(f"error: {problem}", file=sys.stderr, flush=True)
    return 2


if __name__ == "__main__":
    sys.exit(main())
