"""The step deploy: make TorchServe serve the champion of the registry."""

import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

from filelock import FileLock, Timeout
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_fixed

from audiocnn.errors import AudioCNNError
from components.deploy.settings import DeploySettings
from components.deploy.smoke_test import SmokeTest, SmokeTestError
from mlops import tracking
from mlops.artifacts import DeploymentFolder, DeploymentRecord
from mlops.provenance import utc_now
from mlops.runtime import sigterm_as_exit
from mlops.tracking.champion import CHAMPION
from serving.torchserve import server as torchserve
from serving.torchserve.archive import build_archive, from_served_version, to_served_version
from serving.torchserve.client import ServedVersion, ServingError, TorchServeClient

LOCK_TIMEOUT = 600.0  # s to wait for another deploy with the same state folder
DRAIN_TIMEOUT = 60.0  # s for a full queue to accept one more request
GRACE_PERIOD = 1.0  # s for responses in progress when a version is no longer the default


class DeployError(AudioCNNError):
    """There is no champion, or another deploy does not end."""


@sigterm_as_exit()
def deploy(name: str, dataset: Path | None, settings: DeploySettings, output: Path) -> DeploymentRecord:
    """Make TorchServe serve the version under the alias `champion`, and write deployment.json.

    The previous version answers until the new one has passed the smoke test, and is unregistered afterwards. After an
    error before the switch, it is still served, and a TorchServe that this deploy started is stopped. A repeated deploy
    changes nothing.

    Args:
        dataset: folder of the step ingest, for the smoke test; None for a tone.
    """
    DeploymentFolder.check_output(output, [] if dataset is None else [dataset])
    state = Path(settings.state)
    state.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(state / "deploy.lock", timeout=LOCK_TIMEOUT), tempfile.TemporaryDirectory() as scratch:
            version = tracking.version_by_alias(name, CHAMPION)
            if version is None:
                raise DeployError(f"the model {name!r} has no version under the alias {CHAMPION}; promote one first")
            folder = tracking.download_model(version, Path(scratch) / "model")
            smoke_test = SmokeTest.prepare(folder, dataset)
            # Before TorchServe is started or changed: a model that cannot be loaded must not reach it.
            archive = build_archive(folder, name, version.number, state / torchserve.MODEL_STORE)
            with torchserve.started(settings) if settings.start else nullcontext():
                record = _switch(name, version.number, archive, smoke_test, settings)
    except Timeout as error:
        raise DeployError(f"{state}: another deploy has been running for {LOCK_TIMEOUT:g} s; stop it") from error
    tracking.tag_version(name, version.number, {"deployed_at": record.deployed_at, "deployed_to": record.model_url})
    with DeploymentFolder.create(output) as deployment:
        deployment.write(record)
    _print(f"{name} version {version.number} is served at {record.model_url}")
    return record


def _switch(
    name: str, version: int, archive: Path, smoke_test: SmokeTest, settings: DeploySettings
) -> DeploymentRecord:
    """Register and test the version, make it the default and unregister the others."""
    client, new = TorchServeClient.from_settings(settings), to_served_version(version)
    previous = client.default_version(name)
    _ensure_registered(client, name, new, archive, settings)
    try:
        result = smoke_test.run(client, name, version)
    except (SmokeTestError, ServingError):
        if new != previous:
            client.unregister(name, new)
            archive.unlink()
            _print(f"{name} {new} failed and was unregistered; {previous or 'no version'} is served as before")
        raise
    if new != previous:
        client.set_default(name, new)
        _print(f"{name} {new} is the default now; before: {previous or 'no version'}")
    for served in client.list_versions(name):
        if served.version != new:
            _retire(client, name, served, smoke_test.content)
            (archive.parent / served.archive).unlink(missing_ok=True)
    return DeploymentRecord(
        name=name,
        version=version,
        previous=from_served_version(previous) if previous and previous != new else None,
        inference=settings.inference,
        management=settings.management,
        model_url=client.prediction_url(name),
        deployed_at=utc_now(),
        smoke=result,
    )


def _ensure_registered(client: TorchServeClient, name: str, new: str, archive: Path, settings: DeploySettings) -> None:
    """Register the version, or complete what an interrupted deploy left, until its workers are ready."""
    served = next((item for item in client.list_versions(name) if item.version == new), None)
    if served is not None and served.ready_workers == settings.workers:
        _print(f"{name} {new} is already registered")
        return
    if served is not None:
        _print(f"{name} {new} has {served.ready_workers} of {settings.workers} workers ready: scaling")
        client.scale_workers(name, new, settings.workers)
        return
    _print(f"registering {name} {new} with {settings.workers} worker(s)")
    began = time.monotonic()
    try:
        client.register(
            archive.name,
            name,
            new,
            batch_size=settings.batch_size,
            max_batch_delay_ms=settings.max_batch_delay_ms,
            workers=settings.workers,
        )
    except ServingError as error:
        hint = f"; {archive.name} has to be in its model store" if error.status == 404 else ""
        raise ServingError(f"{error}{hint} (deploy.state: {settings.state})", error.status) from error
    _print(f"{name} {new} is ready after {time.monotonic() - began:.1f} s")


def _retire(client: TorchServeClient, name: str, served: ServedVersion, clip: bytes) -> None:
    try:
        _drain(client, name, served, clip)
    except ServingError:
        _print(f"{name} {served.version} no longer answers")
    time.sleep(GRACE_PERIOD)
    client.unregister(name, served.version)
    _print(f"{name} {served.version} is unregistered")


def _drain(client: TorchServeClient, name: str, served: ServedVersion, clip: bytes) -> None:
    """Wait until a version has answered the requests in its queue; TorchServe drops them when it is unregistered.

    The queue is first in, first out: the answer to one more request comes after all earlier ones. A full queue refuses
    the request with 503.
    """
    retrying = Retrying(
        retry=retry_if_exception(lambda error: isinstance(error, ServingError) and error.status == 503),
        stop=stop_after_delay(DRAIN_TIMEOUT if served.ready_workers else 0),
        wait=wait_fixed(0.2),
        reraise=True,
    )
    retrying(client.predict, clip, name, served.version)


def _print(message: str) -> None:
    print(f"[deploy] {message}", flush=True)
