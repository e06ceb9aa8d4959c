"""The HTML report of an evaluation."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from audiocnn import plots
from audiocnn.classifier import Classifier
from audiocnn.config import fold_role
from audiocnn.evaluation import Scores, calibration_table
from audiocnn.model import count_parameters
from mlops import reports
from mlops.artifacts import Metrics, Predictions

TEMPLATE = Path(__file__).with_name("report.html.j2")


@dataclass(frozen=True)
class Evaluation:
    """One model on its test fold."""

    scores: Scores
    predictions: Predictions
    metrics: Metrics
    slices: pd.DataFrame
    robustness: pd.DataFrame
    worst_clips: list[dict[str, Any]]


def render(evaluation: Evaluation, classifier: Classifier, history: pd.DataFrame) -> str:
    dataset, train = (classifier.provenance[key] for key in ("dataset", "train"))
    hold_out = train.get("hold_out", ())
    role, predictions, metrics = fold_role(hold_out), evaluation.predictions, evaluation.metrics
    bins = calibration_table(predictions.probabilities(), predictions.labels(), metrics.confidence)
    return reports.render(
        TEMPLATE,
        metrics=metrics,
        intervals=evaluation.scores.intervals,
        recordings=predictions.table["src_file"].nunique(),
        source=dataset["source"],
        fold=dataset["test_fold"],
        role=role,
        hold_out=hold_out,
        calibrated=str(classifier.calibration).capitalize(),
        recipe=classifier.provenance["recipe"],
        train=train,
        **reports.class_values(evaluation.scores, classifier.classes),
        curves={name: plots.data_uri(figure) for name, figure in plots.curves(history, role).items()},
        calibration=plots.data_uri(plots.calibration({"this model": bins})),
        slices=evaluation.slices.to_dict("records"),
        robustness=evaluation.robustness.to_dict("records"),
        errors=evaluation.worst_clips,
        provenance=[
            ("data set digest", dataset["digest"]),
            ("weights, SHA-256", classifier.weights_sha256),
            ("git revision", classifier.provenance["git_revision"]),
            ("parameters", f"{count_parameters(classifier.network):,}"),
        ],
    )
