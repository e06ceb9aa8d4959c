"""Smoke test: compare the served answer to one clip with the model's own answer, and measure how long it takes."""

import math
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from audiocnn.audio import load
from audiocnn.classifier import Classifier
from audiocnn.errors import AudioCNNError
from mlops.artifacts import DatasetFolder
from serving.torchserve.client import TorchServeClient
from serving.torchserve.model_store import Index

EVALUATION_CLIPS = 16
LATENCY_REQUESTS = 5  # after the one whose answer is compared: the first of a worker takes longer
REMEDY = "stop TorchServe with `audiocnn down`, or restart its Deployment, and deploy again"


class SmokeTestError(AudioCNNError):
    """There is no clip for the test, the served answer differs from the model's, or takes too long."""


def evaluation_clips(model_folder: Path, source: Path | bytes) -> dict[str, bytes]:
    """Return sound files by name, of which the first one is for the smoke test.

    Args:
        source: the folder of the step ingest, for up to EVALUATION_CLIPS clips of the model's test fold, or one file.
    """
    if isinstance(source, bytes):
        return {"the input example": source}
    folder = DatasetFolder(source)
    clips = folder.clips()
    fold = Classifier.load(model_folder).provenance.get("dataset", {}).get("test_fold")
    unseen = clips[clips["fold"] == fold] if fold is not None else clips
    if unseen.empty:
        raise SmokeTestError(f"{source}: no clip of the test fold {fold}; use the data set of the model")
    chosen = unseen["filename"].iloc[:: max(1, len(unseen) // EVALUATION_CLIPS)].head(EVALUATION_CLIPS)
    return {str(name): (folder.audio / name).read_bytes() for name in chosen}


@dataclass(frozen=True)
class SmokeTest:
    """A clip and the expected answer."""

    clip: str  # its name
    content: bytes  # of the sound file
    expected: dict[str, float]  # probability by class name
    tolerance: float  # maximum difference of a probability
    max_latency_ms: float  # maximum of the median time from a request to its answer

    @classmethod
    def prepare(
        cls, model_folder: Path, clip: str, content: bytes, tolerance: float, max_latency_ms: float
    ) -> "SmokeTest":
        """Classify a clip in this process."""
        classifier = Classifier.load(model_folder)
        waveform = torch.from_numpy(load(content, classifier.settings))
        probabilities = classifier.classify(waveform[None])[0].tolist()
        return cls(clip, content, dict(zip(classifier.classes, probabilities, strict=True)), tolerance, max_latency_ms)

    def run(self, client: TorchServeClient, index: Index) -> dict[str, Any]:
        """Send the clip to one version, verify its answer and its latency, and return the result for deployment.json.

        Raises:
            SmokeTestError: it gives another answer than the model, or is slower than `max_latency_ms`.
        """
        best, difference = self._compare_answer(client, index)
        latency = self._measure_latency(client, index)
        found = f"{self.clip} is {best['class']} at {best['probability']:.2f}, answered in {latency:.0f} ms"
        print(f"[deploy] {client.inference}: smoke test: {found}", flush=True)
        return {"clip": self.clip, **best, "max_difference": difference, "latency_ms": round(latency, 1)}

    def _compare_answer(self, client: TorchServeClient, index: Index) -> tuple[dict[str, Any], float]:
        """Return the most probable class of the answer, and the largest difference of a probability."""
        name, version = index.name, index.version
        answer = client.predict(self.content, name, index.served_version)
        if answer["model"]["version"] != version:
            raise SmokeTestError(
                f"{name} version {version}: version {answer['model']['version']} answers instead; {REMEDY}"
            )
        # A class that the model does not have differs by infinity.
        expected = [self.expected.get(item["class"], math.inf) for item in answer["predictions"]]
        difference = max(abs(item["probability"] - p) for item, p in zip(answer["predictions"], expected, strict=True))
        if not difference <= self.tolerance:
            raise SmokeTestError(
                f"{name} version {version}: the served probabilities differ from the model's by {difference:.2g} on "
                f"{self.clip} (tolerance {self.tolerance:g}); {REMEDY}"
            )
        best, most_probable = answer["predictions"][0], max(self.expected, key=self.expected.__getitem__)
        if best["class"] != most_probable:
            raise SmokeTestError(
                f"{name} version {version}: the served answer to {self.clip} is {best['class']}, the model's "
                f"{most_probable}; {REMEDY}"
            )
        return best, difference

    def _measure_latency(self, client: TorchServeClient, index: Index) -> float:
        """Return the median time in ms of several requests, which follow one another."""
        times = []
        for _ in range(LATENCY_REQUESTS):
            began = time.monotonic()
            client.predict(self.content, index.name, index.served_version)
            times.append(1000 * (time.monotonic() - began))
        latency = statistics.median(times)
        if latency > self.max_latency_ms:
            raise SmokeTestError(
                f"{index.name} version {index.version}: {client.inference} answers in {latency:.0f} ms (median of "
                f"{LATENCY_REQUESTS} requests), more than deploy.max_latency_ms={self.max_latency_ms:g}; use a smaller "
                "model or a faster deploy.backend, or increase the limit"
            )
        return latency
