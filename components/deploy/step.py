"""The work of the step deploy."""

import io
import json
import math
import tempfile
import time
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_fixed

from audiocnn.atomic import atomic_folder, check_output
from audiocnn.audio import load
from audiocnn.classifier import Classifier
from audiocnn.data.clips import read_clips
from audiocnn.errors import AudioCNNError
from components.deploy.settings import DeploySettings
from mlops import tracking
from mlops.runtime import sigterm_as_exit
from serving.torchserve import archive
from serving.torchserve import server as process
from serving.torchserve.client import Served, ServingError, TorchServe

CHAMPION = "champion"
MARKER = "deployment.json"  # what shows that a folder is an output of this step
TOLERANCE = 1e-4  # between a served probability and the one computed here: float32 sums in another order
PATIENCE = 600.0  # s that a deploy waits for another one of the same state folder
DRAIN = 60.0  # s that a full queue has to take one request more
GRACE = 1.0  # s for answers under way when a version stops being the default


class DeployError(AudioCNNError):
    """There is nothing to deploy, or what was deployed does not answer as the model does."""


@dataclass(frozen=True)
class Clip:
    """The smoke test's clip, and what the model says to it in this process: class names to probabilities."""

    name: str
    content: bytes
    expected: dict[str, float]


@sigterm_as_exit()
def deploy(name: str, dataset: Path | None, settings: DeploySettings, output: Path) -> dict[str, Any]:
    """Make the version under the alias `champion` the one that TorchServe answers with, and write deployment.json.

    The old version answers until the new one has passed the smoke test, and is unregistered only then. Repeating it
    changes nothing; moving the alias back and repeating it is the rollback.

    Args:
        name: of the model, in the registry and in TorchServe.
        dataset: a folder of the step ingest; the first clip of the model's test fold is the smoke test. None: a tone.
        output: a folder that appears whole or not at all.
    Returns:
        what deployment.json holds.
    Raises:
        DeployError: no champion, or it does not answer as it should; the old version still serves then, and a
            TorchServe that was started for nothing else is stopped.
        ServingError: no TorchServe, or one that refuses.
        ModelError, TrackingError, DatasetError, OutputError: see there.
    """
    check_output(output, MARKER, [] if dataset is None else [dataset])
    state = Path(settings.state)
    state.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(state / "deploy.lock", timeout=PATIENCE), tempfile.TemporaryDirectory() as scratch:
            version = tracking.version_by_alias(name, CHAMPION)
            if version is None:
                raise DeployError(f"the model {name!r} has no version under the alias {CHAMPION}: promote one first")
            folder = tracking.download_model(version, Path(scratch) / "model")
            record = _reconcile(version, folder, _clip(folder, dataset), settings)
    except Timeout as error:
        raise DeployError(f"{state}: another deploy has been at work there for {PATIENCE:g} s") from error
    tags = {"deployed_at": record["deployed_at"], "deployed_to": record["model_url"]}
    tracking.tag_version(name, version.number, tags)
    with atomic_folder(output, MARKER) as part:
        (part / MARKER).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(f"[deploy] {name} version {version.number} answers at {record['model_url']}", flush=True)
    return record


def _reconcile(version: tracking.Version, folder: Path, clip: Clip, settings: DeploySettings) -> dict[str, Any]:
    name, wanted = version.name, archive.served_version(version.number)
    # Built before anything is asked of the server: a model that cannot be loaded must not reach it.
    mar = archive.build(folder, name, version.number, Path(settings.state) / process.STORE)
    with process.running(settings) if settings.start else nullcontext():
        return _switch(version, wanted, mar, clip, settings)


def _switch(version: tracking.Version, wanted: str, mar: Path, clip: Clip, settings: DeploySettings) -> dict[str, Any]:
    """Register, test, make the default, retire the others; the record of it."""
    name, server = version.name, TorchServe.of(settings)
    before = server.default(name)
    _ensure_registered(server, name, wanted, mar, settings)
    try:
        smoke = _smoke_test(server, name, version.number, clip)
    except (DeployError, ServingError):
        if wanted != before:
            server.unregister(name, wanted)
            mar.unlink()
            print(f"[deploy] {wanted} failed and is gone; {before or 'nothing'} is served as before", flush=True)
        raise
    if wanted != before:
        server.set_default(name, wanted)
        print(f"[deploy] {name} {wanted} is the default now, in place of {before or 'nothing'}", flush=True)
    _retire_others(server, name, wanted, clip, settings)
    return {
        "name": name,
        "version": version.number,
        "previous": None if before == wanted else archive.registry_version(before),
        "inference": settings.inference,
        "management": settings.management,
        "model_url": server.url(name),
        "deployed_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "smoke": smoke,
    }


def _ensure_registered(server: TorchServe, name: str, wanted: str, mar: Path, settings: DeploySettings) -> None:
    """Leave the wanted version registered with its workers ready, whatever an interrupted deploy left behind."""
    known = next((served for served in server.describe(name) if served.version == wanted), None)
    if known is not None and known.ready == settings.workers:
        print(f"[deploy] {name} {wanted} is registered already", flush=True)
        return
    if known is not None:
        print(f"[deploy] {name} {wanted} has {known.ready} of {settings.workers} workers ready: scaling", flush=True)
        server.scale(name, wanted, settings.workers)
        return
    print(f"[deploy] registering {name} {wanted}: {settings.workers} worker(s) load it", flush=True)
    began = time.monotonic()
    try:
        server.register(
            mar.name,
            name,
            wanted,
            batch_size=settings.batch_size,
            max_batch_delay_ms=settings.max_batch_delay_ms,
            workers=settings.workers,
        )
    except ServingError as error:
        hint = f"; the server looks for {mar.name} in its own model store" if error.status == 404 else ""
        raise ServingError(f"{error}{hint}; its log is in {Path(settings.state) / 'logs'}", error.status) from error
    print(f"[deploy] {name} {wanted} is loaded after {time.monotonic() - began:.1f} s", flush=True)


def _retire_others(server: TorchServe, name: str, wanted: str, clip: Clip, settings: DeploySettings) -> None:
    """Unregister all versions but one, each after the requests that it already holds are answered."""
    for served in server.describe(name):
        if served.version == wanted:
            continue
        try:
            _drain(server, name, served, clip)
        except ServingError:
            print(f"[deploy] {name} {served.version} does not answer any more", flush=True)
        time.sleep(GRACE)
        server.unregister(name, served.version)
        (Path(settings.state) / process.STORE / served.archive).unlink(missing_ok=True)
        print(f"[deploy] {name} {served.version} is unregistered", flush=True)


def _drain(server: TorchServe, name: str, served: Served, clip: Clip) -> None:
    """Wait until a version that is no longer the default has answered what it holds.

    TorchServe drops what a version has in hand when it goes. Its queue is first in, first out, so the answer to this
    request comes after all that were asked for before the default moved. A full queue refuses it with 503 and empties.
    """
    waiting = Retrying(
        retry=retry_if_exception(lambda error: isinstance(error, ServingError) and error.status == 503),
        stop=stop_after_delay(DRAIN if served.ready else 0),
        wait=wait_fixed(0.2),
        reraise=True,
    )
    waiting(server.predict, clip.content, name, served.version)


def _clip(folder: Path, dataset: Path | None) -> Clip:
    """A clip that the model has not learnt from, and its answer."""
    classifier = Classifier.load(folder)
    if dataset is None:
        name, content = "a tone of 440 Hz", _tone(classifier.settings.rate)
    else:
        clips = read_clips(dataset / "clips.csv")
        fold = classifier.provenance.get("dataset", {}).get("test_fold")
        unseen = clips[clips["fold"] == fold] if fold is not None else clips
        if unseen.empty:
            raise DeployError(f"{dataset}: no clip of fold {fold} for the smoke test; give the data set of the model")
        name = str(unseen["filename"].iloc[0])
        content = (dataset / "audio" / name).read_bytes()
    probabilities = classifier.classify(torch.from_numpy(load(content, classifier.settings))[None])[0].tolist()
    return Clip(name, content, dict(zip(classifier.classes, probabilities, strict=True)))


def _tone(rate: int) -> bytes:
    """One second of it, as a WAV file."""
    import soundfile

    content = io.BytesIO()
    wave = 0.5 * torch.sin(2 * math.pi * 440 * torch.arange(rate) / rate)
    soundfile.write(content, wave.numpy(), rate, format="WAV")
    return content.getvalue()


def _smoke_test(server: TorchServe, name: str, number: int, clip: Clip) -> dict[str, Any]:
    """Hold the answer of one version, asked for by its number, against the model's own.

    Raises:
        DeployError: another version, other classes or other probabilities than the model's.
    """
    began = time.monotonic()
    answer = server.predict(clip.content, name, archive.served_version(number))
    milliseconds = 1000 * (time.monotonic() - began)
    if answer["model"]["version"] != number:
        raise DeployError(f"{name} {number} answers as version {answer['model']['version']}")
    served = {item["class"]: item["probability"] for item in answer["predictions"]}
    unknown = sorted(set(served) - set(clip.expected))
    if unknown:
        raise DeployError(f"{name} version {number} answers with {unknown[0]!r}, which is no class of the model")
    difference = max(abs(probability - clip.expected[label]) for label, probability in served.items())
    if not difference <= TOLERANCE:
        raise DeployError(
            f"{name} version {number} is served with other numbers than the model's: {difference:.2g} apart on "
            f"{clip.name}; if a version of that number was registered before, end TorchServe and deploy again"
        )
    best = answer["predictions"][0]
    print(f"[deploy] smoke test: {clip.name} is {best['class']} at {best['probability']:.2f}", flush=True)
    return {"clip": clip.name, **best, "max_difference": difference, "milliseconds": round(milliseconds, 1)}
