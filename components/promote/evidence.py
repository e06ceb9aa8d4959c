"""Gathers what decide() needs: the challenger's results, and the champion's on the same clips."""

import json
import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from audiocnn.classifier import Classifier, ModelError
from audiocnn.data.batches import batches
from audiocnn.data.spectrogram_set import SpectrogramSet
from audiocnn.device import resolve_device
from audiocnn.errors import AudioCNNError
from components.promote.policy import Champion, Evidence, Incomparable
from mlops import tracking

BATCH = 64


class PromoteError(AudioCNNError):
    """Folders that do not belong together, or that lack what a decision needs."""


def challenger_evidence(version: tracking.Version, model: Path, evaluation: Path) -> Evidence:
    """What the step evaluate measured on the registered model.

    Raises:
        PromoteError: the evaluation or the model folder is of another model, or its figures contradict each other.
    """
    registered = version.tags.get(tracking.WEIGHTS_TAG)
    metrics = _read_json(evaluation / "metrics.json")
    if metrics.get("model_sha256") != registered:
        raise PromoteError(
            f"{evaluation / 'metrics.json'}: these figures are not of {version.name} version {version.number}: the "
            "SHA-256 differs; evaluate and register the same model"
        )
    if Classifier.load(model).weights_sha256 != registered:
        raise PromoteError(f"{model}: is not {version.name} version {version.number}: the SHA-256 differs")
    predictions = _table(evaluation / "predictions.csv", ("md5", "correct"))
    learnt = _learnt(model)
    hits = {
        md5: bool(hit) for md5, hit in zip(predictions["md5"], predictions["correct"], strict=True) if md5 not in learnt
    }
    names = ("accuracy", "min_class_recall", "latency_ms")
    accuracy, recall, latency = (_number(metrics, name, evaluation) for name in names)
    counted = float(predictions["correct"].mean())
    if math.isfinite(accuracy) and not math.isclose(counted, accuracy, abs_tol=1e-6):
        raise PromoteError(
            f"{evaluation}: metrics.json says accuracy {accuracy:.6f}, predictions.csv counts {counted:.6f}; "
            "run the step evaluate again"
        )
    return Evidence(version.number, accuracy, recall, latency, hits)


def champion_evidence(
    version: tracking.Version, challenger: Evidence, model: Path, spectrograms: Path
) -> Champion | Incomparable:
    """Run the champion on the challenger's test clips, less those that it has learnt from itself.

    The clips come out of the spectrogram cache, so a champion with another front end cannot be run on them: the audio
    is not among the step's inputs, and two models on two inputs are a question for a person.
    """
    if version.number == challenger.version:
        return Champion(version.number, challenger.hits)
    data = SpectrogramSet.open(spectrograms)
    with tempfile.TemporaryDirectory() as scratch:
        folder = tracking.download_model(version, Path(scratch, "champion"))
        try:
            champion = Classifier.load(folder, resolve_device("auto"))
            learnt = _learnt(folder)
        except (ModelError, PromoteError) as error:
            return Incomparable(version.number, f"cannot be run by this release ({error})")
    if champion.settings != data.settings:
        return Incomparable(version.number, "hears through another front end than the spectrograms")
    if set(champion.classes) != set(Classifier.load(model).classes):
        return Incomparable(version.number, "knows other classes")
    rows = [row for row, md5 in enumerate(data.clips["md5"]) if md5 in challenger.hits and md5 not in learnt]
    return Champion(version.number, _hits(champion, data, np.array(rows, np.int64)))


def _hits(champion: Classifier, data: SpectrogramSet, rows: Any) -> dict[str, bool]:
    if len(rows) == 0:
        return {}
    parts = batches(data, rows, BATCH, next(champion.parameters()).device).in_order()
    said = torch.cat([champion.classify_spectrograms(part).argmax(dim=1).cpu() for part, _ in parts])
    names = [champion.classes[index] for index in said.tolist()]
    clips = data.clips.iloc[rows]
    return {md5: name == truth for md5, name, truth in zip(clips["md5"], names, clips["category"], strict=True)}


def _learnt(model: Path) -> frozenset[str]:
    """MD5s of the clips that the model in this folder was trained on."""
    clips = _table(model / "clips.csv", ("md5", "split"))
    return frozenset(clips["md5"][clips["split"] == "train"])


def _table(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, dtype={"md5": str}, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise PromoteError(f"{path}: cannot be read: {error}") from error
    for column in columns:
        if column not in table.columns:
            raise PromoteError(f"{path}: column {column} is missing")
    return table


def _number(metrics: Mapping[str, Any], name: str, evaluation: Path) -> float:
    value = metrics.get(name)
    if not isinstance(value, int | float):
        raise PromoteError(f"{evaluation / 'metrics.json'}: {name} is missing; run the step evaluate again")
    return float(value)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PromoteError(f"{path}: cannot be read: {error}") from error
    return content
