"""Folders of planned trainings with chosen predictions, without any training."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from audiocnn.classifier import Classifier
from audiocnn.config import TrainSettings
from helpers.networks import small_network
from helpers.project import ROOT
from mlops import tracking
from mlops.artifacts import EvaluationFolder, Metrics, ModelFolder, Predictions, RunRecord, TrainingRequest
from pipeline import settings as pipeline_settings

DIGEST = "ab" * 32
SEEDS, FOLDS = (3, 4), (1, 2, 5)  # of `cross_validation`
SETTINGS = pipeline_settings.load(ROOT / "params.yaml", {"recipe": "demo"})
TRAIN = SETTINGS.train.replace(epochs=7)
HISTORY = pd.DataFrame(
    [(1, 0.001, 1.5, 0.4, 1.6, 0.3), (2, 0.0005, 1.1, 0.6, 1.3, 0.5)],
    columns=["epoch", "lr", "train_loss", "train_accuracy", "test_loss", "test_accuracy"],
)


def start_parent_run() -> str:
    """Start the MLflow run that the trainings are nested in, as the step plan_trials does; return its id."""
    return tracking.start_run("trainings", {}, {}, tracking.Lineage(DIGEST, "demo", 12)).run_id


def predict(clips: pd.DataFrame, correct: Sequence[bool], classes: Sequence[str], seed: int) -> Predictions:
    """Return predictions with random confidence that are correct for the clips that `correct` names."""
    index = {name: position for position, name in enumerate(classes)}
    probabilities = np.empty((len(clips), len(classes)))
    for row, (category, is_correct) in enumerate(zip(clips["category"], correct, strict=True)):
        confidence = np.random.default_rng([seed, row]).uniform(0.5, 0.95)
        probabilities[row] = (1 - confidence) / (len(classes) - 1)
        probabilities[row, (index[category] + (not is_correct)) % len(classes)] = confidence
    return Predictions.of(clips, probabilities, classes)


@dataclass
class Trainings:
    """Planned trainings in `folder`: the plan, and for each training a model folder and an evaluation folder."""

    folder: Path
    parent: str = ""
    classes: tuple[str, ...] = ("dog", "rain", "sea_waves")
    plan: list[TrainingRequest] = field(default_factory=list)
    models: list[Path] = field(default_factory=list)
    evaluations: list[Path] = field(default_factory=list)

    def add(self, settings: TrainSettings, correct: Sequence[bool], trial: str = "", planned: bool = True) -> None:
        """Write the folders of one training that classifies the clips of its fold correctly as `correct` says."""
        number = len(self.models)
        self.parent = self.parent or start_parent_run()
        if planned:
            self.plan.append(TrainingRequest(recipe="demo", settings=settings, trial=trial, parent_run=self.parent))
        fold = settings.fold
        clips = pd.DataFrame(
            {
                "filename": [f"{fold}-{row}.wav" for row in range(len(correct))],
                "md5": [f"{fold:02x}{row:030x}" for row in range(len(correct))],
                "fold": fold,
                "category": [self.classes[row % len(self.classes)] for row in range(len(correct))],
                "src_file": [f"{fold}-{row}" for row in range(len(correct))],
            }
        )
        provenance = {
            "dataset": {"digest": DIGEST, "source": "demo", "test_fold": fold},
            "recipe": "demo",
            "train": settings.to_dict(),
            "environment": {"hardware": "a GPU"},
        }
        torch.manual_seed(number)
        network = small_network(len(self.classes), SETTINGS.spectrograms.n_mels)
        classifier = Classifier(network, SETTINGS.spectrograms, self.classes, provenance)
        model, evaluation = (self.folder / str(number) / part for part in ("model", "evaluation"))
        with ModelFolder.create(model) as written:
            written.write(classifier, HISTORY, clips, ([], range(len(clips))), RunRecord(run_id=f"run-{number}"))
        write_evaluation(evaluation, classifier, predict(clips, correct, self.classes, 100 * fold + settings.seed))
        self.models.append(model)
        self.evaluations.append(evaluation)


def write_evaluation(folder: Path, classifier: Classifier, predictions: Predictions, **metrics: Any) -> None:
    """Write an evaluation folder; `metrics` replace computed ones."""
    values = {"confidence": 0.95, "latency_ms": 12.0, **metrics}
    scores = predictions.scores(values["confidence"])
    with EvaluationFolder.create(folder) as written:
        written.write_scores(scores, predictions.classes, predictions, Metrics.of(scores, **values))
        written.write_model(classifier.weights_sha256)


def training(fold: int, seed: int = 0, **changes: Any) -> TrainSettings:
    """Return the block train of one training."""
    return TRAIN.replace(fold=fold, seed=seed, **changes)


def random_hits(fold: int, seed: int, clips: int = 12) -> list[bool]:
    """Return for each clip whether it is classified correctly."""
    return list(np.random.default_rng([fold, seed, 9]).uniform(size=clips) < 0.6 + 0.05 * fold)


def cross_validation(folder: Path) -> Trainings:
    """Write three folds of 12 clips, two seeds, one trial. The order of the plan differs from that of the folders."""
    trainings = Trainings(folder)
    for seed in SEEDS:
        for fold in FOLDS:
            trainings.add(training(fold, seed), random_hits(fold, seed))
    trainings.models.reverse()
    trainings.evaluations.reverse()
    return trainings
