"""The step deploy: make TorchServe serve the champion of the registry."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from audiocnn.errors import AudioCNNError
from components.deploy.rollout import Rollout, stage
from components.deploy.settings import DeploySettings
from components.deploy.smoke_test import SmokeTest, evaluation_clips
from mlops import storage, tracking
from mlops.artifacts import DeploymentFolder, DeploymentRecord
from mlops.provenance import utc_now
from mlops.runtime import sigterm_as_exit
from mlops.tracking.deployed import mark_deployed
from mlops.tracking.example import download_example
from mlops.tracking.outside_changes import find_alias_move
from serving.torchserve import server as torchserve
from serving.torchserve.archive import build_archive
from serving.torchserve.client import TorchServeClient
from serving.torchserve.conversion import tolerance
from serving.torchserve.model_store import DEPLOY_LOCK, ModelStore, index_of
from serving.torchserve.replicas import find_replicas

Start = Callable[[DeploySettings], AbstractContextManager[None]]
LOCK_TIMEOUT = 600.0  # s to wait for another deploy with the same model store


class DeployError(AudioCNNError):
    """There is no champion, another deploy does not end, or the model store belongs to another model."""


@sigterm_as_exit()
def deploy(
    name: str, dataset: Path | None, settings: DeploySettings, output: Path, start: Start = torchserve.started
) -> DeploymentRecord:
    """Make TorchServe serve the version under the alias `champion`, and write deployment.json.

    The previous version answers until the new one has passed the smoke test on every replica, and is unregistered
    afterwards. After an error before the switch, it is still served, and a TorchServe that this deploy started is
    stopped. A repeated deploy changes nothing; after an error it completes what is left.

    Args:
        dataset: folder of the step ingest, for the smoke test; None for the input example of the version.
        start: starts TorchServe, and what runs beside it, for a block; used if `deploy.start` is true.
    """
    DeploymentFolder.check_output(output, [] if dataset is None else [dataset])
    settings = settings.in_this_environment()
    with exclusive(settings):
        version = tracking.version_by_alias(name, tracking.CHAMPION)
        if version is None:
            raise DeployError(
                f"the model {name!r} has no version under the alias {tracking.CHAMPION}; promote one first"
            )
        _check_alias(name)
        with prepared(version, dataset, settings, start) as rollout:
            rollout.switch()
            rollout.retire_others()
    return record_deployment(version, rollout, settings, output)


def _check_alias(name: str) -> None:
    """Record a move of the alias that was made outside audiocnn, unless `reconcile` would revert it."""
    move = find_alias_move(name)
    if move is not None:
        if objection := move.objection():
            raise DeployError(
                f"{objection}; the alias {tracking.CHAMPION} was moved to it outside audiocnn: `audiocnn reconcile` "
                'moves it back, `audiocnn approve VERSION --because "..."` overrules the decision'
            )
        move.accept()


@contextmanager
def prepared(
    version: tracking.Version, dataset: Path | None, settings: DeploySettings, start: Start
) -> Iterator[Rollout]:
    """Download and verify a version, and register and test it beside the version that TorchServe serves.

    If this or the block fails, a TorchServe that was started for it is stopped.
    """
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as running:
        with stage("download and verify"):
            folder = tracking.download_model(version, Path(scratch) / "model")
            clips = evaluation_clips(folder, download_example(version) if dataset is None else dataset)
            clip, content = next(iter(clips.items()))
            limit = settings.max_latency_ms
            smoke_test = SmokeTest.prepare(folder, clip, content, tolerance(settings.bf16), limit)
            # Before TorchServe is started or changed: a model that cannot be loaded must not reach it.
            archive = build_archive(folder, version.name, version.number, Path(scratch), settings, list(clips.values()))
        if settings.start:
            with stage("start TorchServe"):
                running.enter_context(start(settings))
        with stage("find TorchServe and the model store"):
            rollout = _rollout(version, archive, smoke_test, settings)
        rollout.prepare(archive)
        yield rollout


def record_deployment(
    version: tracking.Version, rollout: Rollout, settings: DeploySettings, output: Path
) -> DeploymentRecord:
    """Record what is served, in the tags of the version and in deployment.json."""
    model_url = TorchServeClient.from_settings(settings).prediction_url(version.name)
    record = DeploymentRecord(
        name=version.name,
        version=version.number,
        previous=rollout.previous,
        inference=settings.inference,
        management=settings.management,
        model_url=model_url,
        deployed_at=utc_now(),
        backend=rollout.backend,
        smoke=rollout.smoke,
    )
    mark_deployed(version, model_url, record.deployed_at)
    with DeploymentFolder.create(output) as deployment:
        deployment.write(record)
    print(f"[deploy] {version} is served at {model_url}", flush=True)
    return record


def _rollout(version: tracking.Version, archive: Path, smoke_test: SmokeTest, settings: DeploySettings) -> Rollout:
    replicas = find_replicas(settings)
    store = ModelStore(settings.model_store_address)
    current = store.index()
    if current is not None and current.name != version.name and not settings.start:
        raise DeployError(
            f"{store.address} is the model store of {current.name!r}, and each model needs its own; set "
            f"deploy.model_store to another folder or prefix for {version.name!r}"
        )
    wanted = index_of(archive, version.name, version.number, settings)
    return Rollout(wanted, store, replicas, smoke_test)


@contextmanager
def exclusive(settings: DeploySettings) -> Iterator[None]:
    """Wait for other deploys to the same folder. S3 has no lock: of two deploys at once, the last one counts."""
    address = settings.model_store_address
    if address.startswith(storage.SCHEME):
        yield
        return
    Path(address).mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(Path(address) / DEPLOY_LOCK, timeout=LOCK_TIMEOUT):
            yield
    except Timeout as error:
        raise DeployError(f"{address}: another deploy has been running for {LOCK_TIMEOUT:g} s; stop it") from error
