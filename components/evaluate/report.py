"""The evaluation as a page that people read: one self-contained HTML file."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from audiocnn import plots
from audiocnn.classifier import Classifier
from audiocnn.config import EvaluateSettings, fold_role
from audiocnn.data.spectrogram_set import SpectrogramSet
from audiocnn.evaluation import CALIBRATION_BINS, class_table

if TYPE_CHECKING:
    from components.evaluate.step import Evaluation


def render(
    evaluation: "Evaluation",
    classifier: Classifier,
    data: SpectrogramSet,
    rows: Any,
    model: Path,
    settings: EvaluateSettings,
) -> str:
    """The page's HTML; `rows` are the test clips' places in `data`, in the order of the predictions."""
    environment = Environment(
        loader=PackageLoader("components.evaluate", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    history = pd.read_csv(model / "history.csv")
    scores = evaluation.scores
    held_out = classifier.provenance["train"].get("hold_out", ())
    return environment.get_template("report.html.j2").render(
        metrics=evaluation.metrics,
        provenance=classifier.provenance,
        parameters=sum(parameter.numel() for parameter in classifier.network.parameters()),
        classes=_class_rows(evaluation, classifier.classes),
        confusion=plots.data_uri(plots.confusion(scores.confusion, classifier.classes)),
        curves={name: plots.data_uri(figure) for name, figure in plots.curves(history, fold_role(held_out)).items()},
        reliability=_reliability(evaluation.predictions),
        worst=_worst(evaluation.predictions, data, rows, settings.worst_clips),
    )


def _class_rows(evaluation: "Evaluation", classes: tuple[str, ...]) -> list[dict[str, Any]]:
    """One row a class, the weakest first, with what it is most often taken for."""
    table = class_table(evaluation.scores, classes).sort_values(["recall", "f1", "class"])
    return table.rename(columns={"class": "name"}).replace("_", " ", regex=True).to_dict("records")


def _reliability(predictions: pd.DataFrame) -> list[dict[str, float]]:
    """Accuracy and clips in each bin of confidence that has clips: the calibration diagram's bars."""
    bins = np.minimum((predictions["confidence"] * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    groups = predictions.groupby(bins)
    return [
        {
            "low": float(number) / CALIBRATION_BINS,
            "accuracy": float(group["correct"].mean()),
            "confidence": float(group["confidence"].mean()),
            "clips": len(group),
        }
        for number, group in groups
    ]


def _worst(predictions: pd.DataFrame, data: SpectrogramSet, rows: Any, count: int) -> list[dict[str, Any]]:
    """The mistakes that the model was surest of."""
    wrong = predictions[predictions["correct"] == 0].sort_values("confidence", ascending=False).head(count)
    return [
        {
            "filename": row["filename"],
            "category": row["category"].replace("_", " "),
            "predicted": row["predicted"].replace("_", " "),
            "confidence": row["confidence"],
            "own": row[f"p:{row['category']}"],
            "picture": plots.data_uri(plots.thumbnail(data.spectrograms[rows[index]], data.settings.seconds)),
        }
        for index, row in wrong.iterrows()
    ]
