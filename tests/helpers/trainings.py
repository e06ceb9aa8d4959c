"""Trainings as the steps plan, train and evaluate leave them, with predictions that a test chooses."""

import json
from collections.abc import Mapping, Sequence
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
from pipeline import settings as pipeline_settings

DIGEST = "ab" * 32
FRONT_END = pipeline_settings.load(ROOT / "params.yaml").spectrograms
TRAIN = pipeline_settings.load(ROOT / "params.yaml", {"recipe": "demo"}).train.replace(epochs=7)


def begin(name: str = "many") -> str:
    """The MLflow run above all of them, as the step plan leaves it: running."""
    return tracking.start_run(name, {}, {}, tracking.Lineage(DIGEST, "demo", 12)).run_id


def predictions(settings: TrainSettings, right: Sequence[bool], classes: Sequence[str]) -> pd.DataFrame:
    """One row a clip of the fold, clip i of class i modulo their number, named rightly where `right` says so."""
    rows = []
    for number, hit in enumerate(right):
        true = number % len(classes)
        said = true if hit else (true + 1) % len(classes)
        rng = np.random.default_rng([settings.fold, settings.seed, number])
        sure = rng.uniform(0.5, 0.95)
        shares = np.full(len(classes), (1 - sure) / (len(classes) - 1))
        shares[said] = sure
        row: dict[str, Any] = {"filename": f"{settings.fold}-{number}.wav", "md5": f"{settings.fold:02x}{number:030x}"}
        row |= {"fold": settings.fold, "category": classes[true], "predicted": classes[said], "correct": int(hit)}
        row |= {"confidence": sure, **{f"p:{name}": share for name, share in zip(classes, shares, strict=True)}}
        rows.append(row)
    return pd.DataFrame(rows)


@dataclass
class Many:
    """Planned trainings below `folder`, with what they left: `plan`, and one model and one evaluation each."""

    folder: Path
    parent: str = ""
    classes: tuple[str, ...] = ("dog", "rain", "sea_waves")
    plan: list[dict[str, Any]] = field(default_factory=list)
    models: list[Path] = field(default_factory=list)
    evaluations: list[Path] = field(default_factory=list)

    def add(self, settings: TrainSettings, right: Sequence[bool], trial: str = "", planned: bool = True) -> None:
        """One training that named the clips of its fold rightly where `right` says so."""
        place = self.folder / str(len(self.models))
        self.parent = self.parent or begin()
        if planned:
            self.plan.append({"settings": settings.to_dict(), "trial": trial, "parent": self.parent})
        table = predictions(settings, right, self.classes)
        torch.manual_seed(len(self.models))
        network = small_network(len(self.classes))
        provenance: Mapping[str, Any] = {
            "dataset": {"digest": DIGEST, "source": "demo", "test_fold": settings.fold},
            "train": settings.to_dict(),
        }
        classifier = Classifier(network, FRONT_END, self.classes, provenance)
        for part in ("model", "evaluation"):
            (place / part).mkdir(parents=True)
        classifier.save(place / "model")
        split = table[["filename", "md5", "fold"]].assign(split="test")
        split.to_csv(place / "model" / "clips.csv", index=False)
        (place / "model" / "run.json").write_text(json.dumps({"run_id": f"run-{len(self.models)}"}))
        table.to_csv(place / "evaluation" / "predictions.csv", index=False, float_format="%.6f")
        metrics = {"model_sha256": classifier.weights_sha256}
        (place / "evaluation" / "metrics.json").write_text(json.dumps(metrics))
        self.models.append(place / "model")
        self.evaluations.append(place / "evaluation")


def training(fold: int, seed: int = 0, **changes: Any) -> TrainSettings:
    """The block train of one training."""
    return TRAIN.replace(fold=fold, seed=seed, **changes)
