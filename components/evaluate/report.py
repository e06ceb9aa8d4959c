"""The HTML report of an evaluation."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from audiocnn import plots
from audiocnn.classifier import Classifier
from audiocnn.config import fold_role
from audiocnn.data.spectrogram_set import SpectrogramSet
from audiocnn.evaluation import CALIBRATION_BINS, Scores
from audiocnn.model import count_parameters
from mlops import reports
from mlops.artifacts import Metrics, Predictions

TEMPLATE = Path(__file__).with_name("report.html.j2")


@dataclass(frozen=True)
class Evaluation:
    """One model on its test fold: the scores, the predictions, and the content of metrics.json."""

    scores: Scores
    predictions: Predictions
    metrics: Metrics


def render(
    evaluation: Evaluation,
    classifier: Classifier,
    history: pd.DataFrame,
    data: SpectrogramSet,
    rows: npt.NDArray[np.int64],
    max_errors: int,
) -> str:
    """Return the page's HTML. `rows` are the positions in `data` of the clips, in the order of the predictions."""
    dataset, train = (classifier.provenance[key] for key in ("dataset", "train"))
    hold_out = train.get("hold_out", ())
    role = fold_role(hold_out)
    return reports.render(
        TEMPLATE,
        metrics=evaluation.metrics,
        source=dataset["source"],
        fold=dataset["test_fold"],
        role=role,
        hold_out=hold_out,
        recipe=classifier.provenance["recipe"],
        train=train,
        **reports.class_values(evaluation.scores, classifier.classes),
        curves={name: plots.data_uri(figure) for name, figure in plots.curves(history, role).items()},
        calibration=_calibration(evaluation.predictions.table),
        errors=_most_confident_errors(evaluation.predictions, data, rows, max_errors),
        provenance=[
            ("data set digest", dataset["digest"]),
            ("weights, SHA-256", classifier.weights_sha256),
            ("git revision", classifier.provenance["git_revision"]),
            ("parameters", f"{count_parameters(classifier.network):,}"),
        ],
    )


def _calibration(predictions: pd.DataFrame) -> list[dict[str, float]]:
    """Return mean confidence, accuracy and number of clips for each bin of confidence that has clips."""
    bins = np.minimum((predictions["confidence"] * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    return [
        {
            "confidence": float(group["confidence"].mean()),
            "accuracy": float(group["correct"].mean()),
            "clips": len(group),
        }
        for _, group in predictions.groupby(bins)
    ]


def _most_confident_errors(
    predictions: Predictions, data: SpectrogramSet, rows: npt.NDArray[np.int64], count: int
) -> list[dict[str, Any]]:
    table = predictions.table
    errors = table[table["correct"] == 0].sort_values("confidence", ascending=False).head(count)
    return [
        {
            "filename": error["filename"],
            "category": error["category"].replace("_", " "),
            "predicted": error["predicted"].replace("_", " "),
            "confidence": error["confidence"],
            "probability": predictions.probability_of(position, error["category"]),
            "image": plots.data_uri(plots.thumbnail(data.spectrograms[rows[position]], data.settings.seconds)),
        }
        for position, error in errors.iterrows()
    ]
