"""Helpers for tests of TorchServe and deploy: settings with free ports, small models, sound files."""

import io
import os
import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import psutil
import soundfile
import torch

from audiocnn.audio import load
from audiocnn.classifier import Classifier
from audiocnn.data.clips import digest
from audiocnn.model import AudioCNN
from components.deploy.settings import DeploySettings
from helpers.project import ROOT
from mlops import tracking
from mlops.artifacts import DatasetFolder
from mlops.process import is_port_free
from pipeline import settings as pipeline_settings
from serving.torchserve import server, worker_probe
from serving.torchserve.archive import build_archive
from serving.torchserve.client import ServingError, TorchServeClient
from serving.torchserve.model_store import Index, index_of

CLASSES = ("dog", "rain", "sea", "siren", "wind", "clock")
INDEX = Index(
    name="sounds",
    version=7,
    archive="sounds-7.42.mar",
    sha256="0" * 64,
    workers=2,
    batch_size=8,
    max_batch_delay_ms=20,
    written_at="2026-01-01T00:00:00Z",
)

# The kernel gives these to no connection and to no server that asks for port 0, so they stay free until their server
# listens. Each worker of pytest has ports of its own, and each run of pytest an order of its own.
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_PORTS = cycle(random.Random(os.getpid()).sample(range(10_000 + _WORKER % 8, 32_000, 8), 2_750))


def deploy_settings(state: Path, **changes: object) -> DeploySettings:
    """Return the block `deploy` of params.yaml with free ports and another state folder."""
    ports = free_ports(3)
    urls = {
        key: f"http://127.0.0.1:{port}" for key, port in zip(("inference", "management", "metrics"), ports, strict=True)
    }
    block = {**urls, "state": str(state), **changes}
    return pipeline_settings.load(ROOT / "params.yaml", {"deploy": block}).deploy


def build(folder: Path, name: str, version: int, store: Path, **changes: object) -> Index:
    """Build the archive of a model, by default with PyTorch as its backend; return the index that names it."""
    settings = deploy_settings(store, **{"backend": "torch", **changes})
    archive = build_archive(folder, name, version, store, settings)
    return index_of(archive, name, version, settings)


def with_the_model_of(other: Path, archive: Path) -> None:
    """Replace the model in an archive, and keep its name and version."""
    with ZipFile(archive) as original:
        members = {name: original.read(name) for name in original.namelist()}
    members |= {name: (other / name).read_bytes() for name in ("model.json", "model.safetensors")}
    with ZipFile(archive, "w") as changed:
        for name, content in members.items():
            changed.writestr(name, content)


def free_ports(count: int) -> list[int]:
    """Return ports on which no server listens, and which this process has not been given before."""
    return list(islice(filter(is_port_free, _PORTS), count))


def workers(state: Path) -> list[psutil.Process]:
    """Return the workers of the TorchServe of a state folder."""
    found = server.find(state)
    assert found is not None
    return worker_probe.workers(found)


def small_model(folder: Path, seed: int, digest: str = "d" * 64, fold: int = 2, recipe: str = "seed") -> Classifier:
    """Save a classifier with random weights to `folder`; different seeds give different answers to every sound."""
    torch.manual_seed(seed)
    resolved = pipeline_settings.load(ROOT / "params.yaml", {"recipe": recipe})
    settings, architecture = resolved.spectrograms, resolved.train.architecture.replace(width=0.0625)
    provenance = {"dataset": {"digest": digest, "source": "random", "test_fold": fold}}
    network = AudioCNN(len(CLASSES), settings.n_mels, architecture)
    torch.nn.init.normal_(network.head[-1].bias, std=2.0)  # distinct probabilities for every sound
    classifier = Classifier(network, settings, CLASSES, provenance)
    folder.mkdir(parents=True, exist_ok=True)
    classifier.save(folder)
    return classifier


def registered_models(folder: Path, name: str, dataset: Path) -> dict[int, Classifier]:
    """Save classifiers with random weights in `folder`, and register them as the versions 1 to 3 of `name`."""
    described = digest(DatasetFolder(dataset).clips())
    return {number: _registered_model(folder / str(number), name, number, described) for number in (1, 2, 3)}


def _registered_model(folder: Path, name: str, number: int, digest: str) -> Classifier:
    classifier = small_model(folder, seed=number, digest=digest)
    with tracking.start_run(f"train {number}", {}, {}, tracking.Lineage(digest, "demo", 50)) as run:
        run_id = run.run_id
    version = tracking.register_model(
        run_id,
        folder,
        name,
        classes=classifier.classes,
        example=encode(noise()),
        weights_sha256=classifier.weights_sha256,
        tags={},
        metrics={},
    )
    assert version.number == number
    return classifier


def probabilities(classifier: Classifier, content: bytes) -> dict[str, float]:
    """Classify a sound file in this process; return the probability by class name."""
    waveform = torch.from_numpy(load(content, classifier.settings))
    return dict(zip(classifier.classes, classifier.classify(waveform[None])[0].tolist(), strict=True))


def noise(seconds: float = 1.0, rate: int = 44100, channels: int = 1, seed: int = 0) -> np.ndarray:
    """Return band-limited noise at a tenth of full scale: float32 of shape (frames, channels)."""
    random = np.random.default_rng(seed)
    white = random.standard_normal((round(seconds * rate), channels))
    smooth = np.apply_along_axis(lambda x: np.convolve(x, np.hanning(8), mode="same"), 0, white)
    return (0.1 * smooth / np.abs(smooth).max()).astype(np.float32)


def encode(samples: np.ndarray, rate: int = 44100, kind: str = "WAV", subtype: str | None = None) -> bytes:
    """Return the content of a sound file."""
    content = io.BytesIO()
    soundfile.write(content, samples, rate, format=kind, subtype=subtype)
    return content.getvalue()


@contextmanager
def requests_under_way(
    streams: Sequence[Sequence[TorchServeClient]], name: str, clip: bytes
) -> Iterator[tuple[list[int], list[ServingError]]]:
    """Send requests in a block, and 20 more, from a thread for each stream; yield the answering versions and errors.

    A thread asks the next of its clients before it counts an error, as clients of a Service do.
    """
    answers: list[int] = []
    failures: list[ServingError] = []
    ended = threading.Event()

    def ask(clients: Sequence[TorchServeClient]) -> None:
        while not ended.is_set():
            errors = []
            for client in clients:
                try:
                    answers.append(client.predict(clip, name)["model"]["version"])
                    break
                except ServingError as error:
                    errors.append(error)
            else:
                failures.extend(errors)

    threads = [threading.Thread(target=ask, args=(clients,)) for clients in streams]
    for thread in threads:
        thread.start()
    try:
        yield answers, failures
        after = len(answers)
        while len(answers) < after + 20 and not failures:
            ended.wait(0.05)
    finally:
        ended.set()
        for thread in threads:
            thread.join(60)
