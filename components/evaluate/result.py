"""The result of the step evaluate."""

from dataclasses import dataclass

from audiocnn.evaluation import Scores
from mlops.artifacts import Metrics, Predictions


@dataclass(frozen=True)
class Evaluation:
    """One model on its test fold: the scores, the predictions, and the content of metrics.json."""

    scores: Scores
    predictions: Predictions
    metrics: Metrics
