"""Measurements for `decide`: the challenger's evaluation, and the champion's predictions on the same clips."""

import hashlib
import math
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from audiocnn.classifier import WEIGHTS_FILE, ModelError
from audiocnn.data.spectrogram_set import SpectrogramSet
from audiocnn.device import resolve_device
from audiocnn.errors import AudioCNNError
from components.promote.comparison import MeasuredModel
from components.promote.policy import Challenger, Champion, ClipResult, common_clips
from mlops import tracking
from mlops.artifacts import ArtifactError, EvaluationFolder, ModelFolder, Predictions

BATCH_SIZE = 64


class PromoteError(AudioCNNError):
    """Inputs that do not belong together, or a champion that changed during the step."""


def challenger_evidence(version: tracking.Version, model: Path, evaluation: Path) -> Challenger:
    """Return the measurements of the registered version from its folders of the steps train and evaluate."""
    registered = tracking.recorded_weights(version)
    evaluated = EvaluationFolder(evaluation)
    metrics, predictions = evaluated.metrics(), evaluated.predictions().table
    for folder, weights in (
        (evaluation, evaluated.weights_sha256()),
        (model, ModelFolder(model).classifier().weights_sha256),
    ):
        if weights != registered:
            raise PromoteError(
                f"{folder} does not belong to {version} (SHA-256 differs); use the folders that were registered"
            )
    if not math.isclose(accuracy := float(predictions["correct"].mean()), metrics.accuracy, abs_tol=1e-6):
        raise PromoteError(
            f"{evaluation}: the accuracy is {metrics.accuracy:.6f} in metrics.json but {accuracy:.6f} in "
            "predictions.csv; run the step evaluate again"
        )
    training_clips = ModelFolder(model).training_clips()
    rows = predictions[~predictions["md5"].isin(training_clips)]
    return Challenger(
        version=version.number,
        weights_sha256=registered,
        accuracy=metrics.accuracy,
        min_class_recall=metrics.min_class_recall,
        weakest_class=_weakest_class(predictions),
        calibration_error=metrics.calibration_error,
        megabytes=(model / WEIGHTS_FILE).stat().st_size / 1e6,
        latency_ms=metrics.latency_ms,
        clips={
            row.md5: ClipResult(row.category, row.src_file, bool(row.correct)) for row in rows.itertuples(index=False)
        },
    )


def _weakest_class(predictions: pd.DataFrame) -> str:
    """Describe the class with the lowest recall. With few clips it may be low by chance, which a reader has to know."""
    classes = predictions.groupby("category")["correct"].agg(["mean", "sum", "size"])
    name = classes["mean"].idxmin()
    return f"{name}, {classes['sum'][name]} of {classes['size'][name]} clips"


Models = tuple[MeasuredModel, MeasuredModel]  # challenger and champion


def champion_evidence(
    version: tracking.Version, challenger: Challenger, model: Path, evaluation: Path, spectrograms: Path
) -> tuple[Champion, Models | None]:
    """Classify the challenger's test clips with the champion, except those that the champion was trained on.

    All folders are the challenger's. The champion needs the same front end: the step has no audio. A champion that
    cannot be loaded does not raise an error, or every later run would fail.

    Returns:
        what the decision needs, and both models for the page; None if they have no common clips or cannot be compared.
    """
    weights = tracking.recorded_weights(version)
    if version.number == challenger.version:
        return Champion(version.number, weights, {}), None
    data, own = SpectrogramSet.open(spectrograms), ModelFolder(model)
    with tempfile.TemporaryDirectory() as scratch:
        try:
            folder = ModelFolder(tracking.download_model(version, Path(scratch, "champion")))
            champion, training_clips = folder.classifier(resolve_device("auto")), folder.training_clips()
        except (tracking.TrackingError, ModelError, ArtifactError) as error:
            reason = " ".join(str(error).replace(f"{scratch}/champion/", "").split())
            what = "is damaged" if isinstance(error, tracking.DamagedVersionError) else "cannot be loaded"
            return Champion(version.number, weights, {}, (f"{what}: {reason}",)), None
        obstacles = []
        if champion.settings != data.settings:
            obstacles.append("has another front end")
        if set(champion.classes) != set(classes := own.classifier().classes):
            obstacles.append("has other classes")
        if obstacles:
            return Champion(version.number, weights, {}, tuple(obstacles)), None
        clips = data.clips["md5"]
        rows = [row for row, md5 in enumerate(clips) if md5 in challenger.clips and md5 not in training_clips]
        predictions = Predictions.predict(champion, data, np.array(rows, np.int64), BATCH_SIZE)
        table = predictions.table
        judged = Champion(version.number, weights, dict(zip(table["md5"], table["correct"] == 1, strict=True)))
        common = common_clips(challenger, judged)
        if not common:
            return judged, None
        return judged, (
            MeasuredModel.of(own, EvaluationFolder(evaluation).predictions(), common, classes),
            MeasuredModel.of(folder, predictions, common, classes),
        )


def clips_digest(challenger: Challenger, champion: Champion) -> str:
    """Return the SHA-256 digest, in hex, of the clips that both models are compared on."""
    return hashlib.sha256("\n".join(common_clips(challenger, champion)).encode()).hexdigest()
