"""Small artifact folders with chosen results, for tests of the registry."""

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import soundfile
import torch
import xxhash

from audiocnn import audio
from audiocnn.classifier import Classifier
from audiocnn.config import SpectrogramSettings
from audiocnn.data.clips import CLIP_COLUMNS, class_names
from audiocnn.features import FRONT_END_VERSION, LogMel
from components.promote.settings import PromoteSettings
from components.register.step import register
from helpers import trainings
from helpers.networks import small_network
from mlops import tracking
from mlops.artifacts import DatasetFolder, DecisionFolder, DecisionRecord, ModelFolder, Outcome, RunRecord
from mlops.provenance import utc_now
from mlops.register_settings import RegisterSettings
from mlops.tracking import manifest, signature

SETTINGS = SpectrogramSettings(rate=8000, seconds=0.5, n_fft=256, hop=128, n_mels=32, f_min=0.0, f_max=4000.0)
CLASSES = ("dog", "rain", "sea_waves")
TEST_FOLD, TEST_CLIPS = 2, 40
POLICY = PromoteSettings(
    approval="automatic",
    min_accuracy=0.6,
    min_class_recall=0.1,
    max_calibration_error=1.0,
    max_megabytes=200.0,
    max_latency_ms=500.0,
    min_paired_clips=20,
    level=0.1,
    margin=0.05,
    max_class_drop=0.1,
)


@dataclass(frozen=True)
class Data:
    """Noise in two folds, 20 clips to train on and 40 to test on: a dataset folder and a spectrogram folder."""

    dataset: Path
    spectrograms: Path

    @property
    def clips(self) -> pd.DataFrame:
        return DatasetFolder(self.dataset).clips()

    @property
    def digest(self) -> str:
        return DatasetFolder(self.dataset).record().digest

    @property
    def test_clips(self) -> pd.DataFrame:
        return self.clips[self.clips["fold"] == TEST_FOLD].reset_index(drop=True)


def noise(seed: int, seconds: float = 0.5) -> bytes:
    """Return colored noise as a WAV file."""
    generator = np.random.default_rng(seed)
    samples = generator.normal(0, 0.1, int(seconds * SETTINGS.rate))
    content = io.BytesIO()
    soundfile.write(content, np.convolve(samples, np.ones(1 + seed % 9) / 3, "same"), SETTINGS.rate, format="WAV")
    return content.getvalue()


def write_data(
    folder: Path,
    source: str = "demo",
    classes: Sequence[str] = CLASSES,
    train_clips: int = 20,
    test_clips: int = TEST_CLIPS,
) -> Data:
    """Write the folders dataset and spectrograms."""
    data = Data(folder / "dataset", folder / "spectrograms")
    rows, front_end, arrays = [], LogMel(SETTINGS), []
    with DatasetFolder.create(data.dataset) as dataset:
        dataset.audio.mkdir()
        for number in range(train_clips + test_clips):
            content, target = noise(number), number % len(classes)
            name, fold = f"{number}.wav", 1 if number < train_clips else TEST_FOLD
            (dataset.audio / name).write_bytes(content)
            digests = (hashlib.md5(content, usedforsecurity=False).hexdigest(), xxhash.xxh3_128_hexdigest(content))
            rows.append(
                (name, fold, target, classes[target], str(number), "A", *digests, SETTINGS.rate, 1, SETTINGS.samples)
            )
            arrays.append(front_end(torch.from_numpy(audio.load(content, SETTINGS))).numpy())
        clips = pd.DataFrame(rows, columns=list(CLIP_COLUMNS))
        record = dataset.write_clips(clips, source, source, settings={"subset": "all"})
        for file in (dataset.report, dataset.findings):
            file.write_text("the findings of ingest")
    data.spectrograms.mkdir()
    clips.to_csv(data.spectrograms / "clips.csv", index=False)
    np.save(data.spectrograms / "spectrograms.npy", np.stack(arrays).astype(np.float16))
    spec = {
        "settings": SETTINGS.to_dict(),
        "front_end": FRONT_END_VERSION,
        "dataset": {"digest": record.digest, "source": source, "clips": record.clips},
        "classes": class_names(clips),
    }
    (data.spectrograms / "spec.json").write_text(json.dumps(spec))
    return data


def write_model(
    folder: Path,
    data: Data,
    seed: int = 0,
    classes: Sequence[str] = CLASSES,
    settings: SpectrogramSettings = SETTINGS,
    answer: int | None = None,
    trained_on: Sequence[str] = (),
) -> Path:
    """Write a model folder with random weights and its own MLflow run.

    Args:
        answer: index of a class that the model always predicts.
        trained_on: MD5 digests of test clips that the model was trained on.
    """
    torch.manual_seed(seed)
    network = small_network(len(classes))
    if answer is not None:
        with torch.no_grad():
            network.head[-1].weight.zero_()
            network.head[-1].bias.copy_(torch.nn.functional.one_hot(torch.tensor(answer), len(classes)))
            network.stem[0].weight.add_(torch.randn(1) / 100)  # so that no two models have the same SHA-256
    lineage = tracking.Lineage(data.digest, "demo", len(data.clips))
    run = tracking.start_run(f"seed {seed}", {"train": {"seed": seed}}, {}, lineage)
    with run:
        run.log_metrics({"train_loss": 0.5}, step=1)
    provenance = {
        "dataset": {"digest": data.digest, "source": "demo", "test_fold": TEST_FOLD},
        "recipe": "demo",
        "train": {"seed": seed, "epochs": 1},
        "git_revision": "0" * 40,
    }
    classifier, clips = Classifier(network, settings, classes, provenance), data.clips
    is_test = (clips["fold"] == TEST_FOLD) & ~clips["md5"].isin(list(trained_on))
    rows = (np.flatnonzero(~is_test), np.flatnonzero(is_test))
    with ModelFolder.create(folder) as model:
        model.write(classifier, trainings.HISTORY, clips, rows, RunRecord(run_id=run.run_id))
    return folder


def write_evaluation(folder: Path, model: Path, data: Data, correct: int, **metrics: Any) -> Path:
    """Write an evaluation in which the first `correct` test clips are classified correctly.

    Args:
        metrics: values that replace the computed ones.
    """
    classifier, clips = ModelFolder(model).classifier(), data.test_clips
    predictions = trainings.predict(clips, [row < correct for row in range(len(clips))], classifier.classes, seed=0)
    trainings.write_evaluation(folder, classifier, predictions, **metrics)
    return folder


def record_decision(
    name: str, number: int, outcome: Outcome, champion: int | None = None, reasons: Sequence[str] = ("a reason",)
) -> None:
    """Record a decision on a version like the step promote."""
    version = tracking.get_version(name, number)
    record = DecisionRecord(
        outcome=outcome,
        reasons=tuple(reasons),
        name=name,
        challenger=number,
        champion=champion,
        comparison=None,
        policy={},
        decided_at=utc_now(),
    )
    with TemporaryDirectory() as scratch, DecisionFolder.create(Path(scratch, "decision")) as folder:
        folder.write(record, "a page")
        tracking.write_decision(version, folder)
    tracking.tag_version(name, number, {"decision": outcome})


@dataclass(frozen=True)
class Candidate:
    """A registered version and its folders, the inputs of the step promote."""

    version: tracking.Version
    registration: Path
    model: Path
    evaluation: Path


def candidate(
    folder: Path,
    name: str,
    data: Data,
    correct: int = 30,
    answer: int = 0,
    trained_on: Sequence[str] = (),
    **metrics: Any,
) -> Candidate:
    """Write, evaluate and register a model that always predicts the class `answer`."""
    model = write_model(folder / "model", data, answer=answer, trained_on=trained_on, seed=len(str(folder)))
    evaluation = write_evaluation(folder / "evaluation", model, data, correct, **metrics)
    version = register(model, evaluation, data.dataset, RegisterSettings(name=name), folder / "registration")
    return Candidate(version, folder / "registration", model, evaluation)


def bare_version(name: str, model: Path, run_id: str, with_manifest: bool = True) -> tracking.Version:
    """Register a model folder quickly: only its files, without MLflow's package of the library around them.

    Args:
        with_manifest: False for a version like those of release 0.1.0.
    """
    connection = tracking.connect()
    client = connection.client
    files = manifest.make(model)
    params = {manifest.PARAMETER: manifest.digest(files)} if with_manifest else {}
    logged = client.create_logged_model(connection.experiment_id(), source_run_id=run_id, params=params)
    client.log_model_artifacts(logged.model_id, str(model), "artifacts/model")
    if with_manifest:
        manifest.store(logged.model_id, files)
        signature.store(logged.model_id, signature.sign(model))
    client.finalize_logged_model(logged.model_id, "READY")
    made = client.create_model_version(name, f"models:/{logged.model_id}", run_id, model_id=logged.model_id)
    return tracking.get_version(name, int(made.version))


def stored_files(version: tracking.Version) -> Path:
    """Return the stored model folder of a version, for tests that damage it."""
    uri = tracking.connect().client.get_model_version_download_uri(version.name, str(version.number))
    return Path(uri.removeprefix("file://"), "artifacts", "model")
