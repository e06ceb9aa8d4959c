"""The page `comparison.html`: the decision, and challenger and champion side by side on their common clips."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pandas as pd

from audiocnn import plots
from audiocnn.classifier import WEIGHTS_FILE
from audiocnn.evaluation import calibration_table, difference_intervals
from audiocnn.latency import latency_ms
from components.promote.page import result
from mlops import reports
from mlops.artifacts import DecisionRecord, ModelFolder, Predictions

TEMPLATE = Path(__file__).with_name("comparison.html.j2")
METRICS = (  # name, label, whether it is a share, which is shown in percent
    ("accuracy", "accuracy", True),
    ("balanced_accuracy", "balanced accuracy", True),
    ("top3_accuracy", "top-3 accuracy", True),
    ("min_class_recall", "lowest recall of a class", True),
    ("macro_f1", "macro F1", False),
    ("loss", "log loss (nats)", False),
    ("brier_score", "Brier score", False),
    ("calibration_error", "expected calibration error", False),
)
CLASSES = 20  # rows of the table of classes


@dataclass(frozen=True)
class MeasuredModel:
    """A model, its predictions on the clips that both models are compared on, its size and its latency."""

    predictions: Predictions
    megabytes: float  # of the weights
    latency_ms: float  # see `audiocnn.latency`; both are measured in the same process, so that they can be compared

    @classmethod
    def of(cls, folder: ModelFolder, predictions: Predictions, clips: Sequence[str], classes: Sequence[str]) -> Self:
        """Measure the model in `folder`; `clips` are MD5 digests, and `classes` the order of the probabilities."""
        table = predictions.with_classes(classes).table.drop_duplicates("md5", keep="last")
        return cls(
            predictions=Predictions(table.set_index("md5", drop=False).loc[list(clips)].reset_index(drop=True)),
            megabytes=(folder.path / WEIGHTS_FILE).stat().st_size / 1e6,
            latency_ms=latency_ms(folder.classifier()),
        )


def render(record: DecisionRecord, models: tuple[MeasuredModel, MeasuredModel] | None, confidence: float) -> str:
    """Return the page's HTML.

    Args:
        models: challenger and champion; None if they were not compared.
    """
    values = {} if models is None else _side_by_side(record, *models, confidence)
    return reports.render(TEMPLATE, result=result(record), record=record, compared=models is not None, **values)


def _side_by_side(
    record: DecisionRecord, challenger: MeasuredModel, champion: MeasuredModel, confidence: float
) -> dict[str, Any]:
    pair = (challenger.predictions, champion.predictions)
    table, labels = pair[0].table, pair[0].labels()
    first, second = (predictions.probabilities() for predictions in pair)
    bins = [calibration_table(probabilities, labels, confidence) for probabilities in (first, second)]
    names = (f"version {record.challenger} (challenger)", f"version {record.champion} (champion)")
    return {
        "confidence": confidence,
        "clips": len(table),
        "recordings": table["src_file"].nunique(),
        "metrics": _metrics(*pair, confidence),
        "sizes": [
            ("size of the weights (MB)", challenger.megabytes, champion.megabytes),
            ("sound file to probabilities, one CPU thread (ms)", challenger.latency_ms, champion.latency_ms),
        ],
        "classes": _class_changes(*pair),
        "calibration": plots.data_uri(plots.calibration(dict(zip(names, bins, strict=True)))),
    }


def _metrics(challenger: Predictions, champion: Predictions, confidence: float) -> list[dict[str, Any]]:
    """Return a row for each metric: both values with intervals, and the difference with its own interval."""
    scores = [predictions.scores(confidence) for predictions in (challenger, champion)]
    labels, recordings = challenger.labels(), challenger.table["src_file"]
    differences = difference_intervals(
        challenger.probabilities(), champion.probabilities(), labels, recordings, confidence
    )
    return [
        {
            "label": label,
            "is_share": is_share,
            "models": [(getattr(each, name), each.intervals.get(name)) for each in scores],
            "difference": getattr(scores[0], name) - getattr(scores[1], name),
            "interval": differences.get(name),
        }
        for name, label, is_share in METRICS
    ]


def _class_changes(challenger: Predictions, champion: Predictions) -> list[dict[str, Any]]:
    """Return the classes whose number of correct clips differs, the largest difference first."""
    hits = pd.DataFrame(
        {"name": challenger.table["category"], "now": challenger.table["correct"], "before": champion.table["correct"]}
    )
    classes = hits.groupby("name").agg(now=("now", "sum"), before=("before", "sum"), clips=("now", "size"))
    classes["change"] = classes["now"] - classes["before"]
    changed = classes[classes["change"] != 0].sort_values("change", key=abs, ascending=False, kind="stable")
    rows: list[dict[str, Any]] = changed.head(CLASSES).reset_index().to_dict("records")
    return rows
