"""Small folders as the steps hand them on, with results that a test chooses: for the registry's tests."""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
import torch
import xxhash

from audiocnn import audio
from audiocnn.classifier import Classifier
from audiocnn.config import SpectrogramSettings
from audiocnn.data.clips import CLIP_COLUMNS, class_names, digest
from audiocnn.features import FRONT_END_VERSION, LogMel
from components.promote.settings import PromoteSettings
from components.register.step import register
from helpers.networks import small_network
from mlops import tracking
from mlops.tracking.settings import RegisterSettings

SETTINGS = SpectrogramSettings(rate=8000, seconds=0.5, n_fft=256, hop=128, n_mels=32, f_min=0.0, f_max=4000.0)
CLASSES = ("dog", "rain", "sea_waves")
TEST_FOLD, TEST_CLIPS = 2, 40
POLICY = PromoteSettings(
    approval="automatic",
    min_accuracy=0.6,
    min_class_recall=0.1,
    max_accuracy_drop=0.0,
    min_paired_clips=20,
    max_latency_ms=500.0,
)


@dataclass(frozen=True)
class Data:
    """A data set of noise in two folds, 20 clips to learn from and 40 to test on, and its spectrograms."""

    dataset: Path
    spectrograms: Path

    @property
    def clips(self) -> pd.DataFrame:
        return pd.read_csv(self.dataset / "clips.csv")

    @property
    def digest(self) -> str:
        return str(json.loads((self.dataset / "dataset.json").read_text())["digest"])

    @property
    def test_clips(self) -> pd.DataFrame:
        return self.clips[self.clips["fold"] == TEST_FOLD].reset_index(drop=True)


def noise(seed: int, seconds: float = 0.5) -> bytes:
    """A WAV file of coloured noise."""
    generator = np.random.default_rng(seed)
    samples = generator.normal(0, 0.1, int(seconds * SETTINGS.rate))
    content = io.BytesIO()
    soundfile.write(content, np.convolve(samples, np.ones(1 + seed % 9) / 3, "same"), SETTINGS.rate, format="WAV")
    return content.getvalue()


def write_data(folder: Path, source: str = "demo") -> Data:
    """dataset/ and spectrograms/ below `folder`."""
    import hashlib

    data = Data(folder / "dataset", folder / "spectrograms")
    (data.dataset / "audio").mkdir(parents=True)
    data.spectrograms.mkdir()
    rows, front_end, arrays = [], LogMel(SETTINGS), []
    for number in range(20 + TEST_CLIPS):
        content, target = noise(number), number % len(CLASSES)
        name, fold = f"{number}.wav", 1 if number < 20 else TEST_FOLD
        (data.dataset / "audio" / name).write_bytes(content)
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
        named = (md5, xxhash.xxh3_128_hexdigest(content))
        rows.append((name, fold, target, CLASSES[target], str(number), "A", *named, SETTINGS.rate, 1, SETTINGS.samples))
        arrays.append(front_end(torch.from_numpy(audio.load(content, SETTINGS))).numpy())
    clips = pd.DataFrame(rows, columns=list(CLIP_COLUMNS))
    described = {"digest": digest(clips), "source": source, "clips": len(clips)}
    for name in ("report.html", "findings.csv"):
        (data.dataset / name).write_text("what ingest found")
    for place in (data.dataset, data.spectrograms):
        clips.to_csv(place / "clips.csv", index=False)
    (data.dataset / "dataset.json").write_text(json.dumps({**described, "classes": 3, "quarantined": 0}))
    np.save(data.spectrograms / "spectrograms.npy", np.stack(arrays).astype(np.float16))
    spec = {"settings": vars(SETTINGS), "front_end": FRONT_END_VERSION, "dataset": described, "classes": class_names(clips)}
    (data.spectrograms / "spec.json").write_text(json.dumps(spec))
    return data


def write_model(
    folder: Path,
    data: Data,
    seed: int = 0,
    classes: Sequence[str] = CLASSES,
    settings: SpectrogramSettings = SETTINGS,
    answer: int | None = None,
    learnt: Sequence[str] = (),
) -> Path:
    """A model folder with random weights and its own MLflow run.

    `answer` makes the model always name that class; `learnt` adds MD5s to the clips it has been trained on.
    """
    torch.manual_seed(seed)
    network = small_network(len(classes))
    if answer is not None:
        with torch.no_grad():
            network.head[-1].weight.zero_()
            network.head[-1].bias.copy_(torch.nn.functional.one_hot(torch.tensor(answer), len(classes)))
            network.stem[0].weight.add_(torch.randn(1) / 100)  # so that two of them do not share a SHA-256
    lineage = tracking.Lineage(data.digest, "demo", len(data.clips))
    run = tracking.start_run(f"seed {seed}", {"train": {"seed": seed}}, {}, lineage)
    with run:
        run.metrics({"train_loss": 0.5}, step=1)
    provenance = {
        "dataset": {"digest": data.digest, "source": "demo", "test_fold": TEST_FOLD},
        "train": {"seed": seed},
        "git_revision": "0" * 40,
    }
    Classifier(network, settings, classes, provenance).save(folder)
    clips = data.clips[["filename", "md5", "fold"]].copy()
    clips["split"] = [
        "test" if fold == TEST_FOLD and md5 not in learnt else "train"
        for fold, md5 in zip(clips["fold"], clips["md5"], strict=True)
    ]
    clips.to_csv(folder / "clips.csv", index=False)
    (folder / "run.json").write_text(json.dumps({"run_id": run.run_id}))
    return folder


def write_evaluation(folder: Path, model: Path, data: Data, right: int, **figures: float) -> Path:
    """An evaluation in which the model named the first `right` of the test clips rightly; `figures` go over metrics."""
    folder.mkdir(parents=True)
    clips = data.test_clips
    correct = [int(row < right) for row in range(len(clips))]
    predictions = clips[["filename", "md5", "category"]].assign(predicted=clips["category"], correct=correct)
    predictions.to_csv(folder / "predictions.csv", index=False)
    accuracy = right / len(clips)
    metrics = {
        "clips": len(clips),
        "accuracy": accuracy,
        "accuracy_low": accuracy - 0.1,
        "accuracy_high": accuracy + 0.1,
        "macro_f1": accuracy,
        "min_class_recall": accuracy,
        "loss": 0.7,
        "calibration_error": 0.05,
        "latency_ms": 12.0,
        "model_sha256": Classifier.load(model).weights_sha256,
        **figures,
    }
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return folder


@dataclass(frozen=True)
class Candidate:
    """Everything that the step promote asks for, of one registered version."""

    version: tracking.Version
    registration: Path
    model: Path
    evaluation: Path


def candidate(
    folder: Path, name: str, data: Data, right: int = 30, answer: int = 0, learnt: Sequence[str] = (), **figures: float
) -> Candidate:
    """Write, evaluate and register a model that always names the class `answer`."""
    model = write_model(folder / "model", data, answer=answer, learnt=learnt, seed=len(str(folder)))
    evaluation = write_evaluation(folder / "evaluation", model, data, right, **figures)
    version = register(model, evaluation, data.dataset, RegisterSettings(name), folder / "registration")
    return Candidate(version, folder / "registration", model, evaluation)
