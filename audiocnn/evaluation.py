"""Classification metrics with confidence intervals and calibration, and paired comparisons of two models.

scipy and scikit-learn are imported where they are used: together they take two seconds, which would delay every
command.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from audiocnn.intervals import FloatArray, IntArray, Interval, bootstrap_intervals, share_interval, wilson_interval

CALIBRATION_BINS = 15  # as in Guo et al.
TOP = 3


@dataclass(frozen=True)
class Scores:
    """Metrics of one model.

    Attributes:
        accuracy: 0 to 1.
        balanced_accuracy: mean recall of the classes that have clips.
        macro_f1: mean F1 score of the classes that have clips.
        top3_accuracy: share of clips whose class is among the three most probable ones.
        min_class_recall: lowest recall of the classes that have clips.
        loss: mean cross-entropy in nats.
        brier_score: mean squared distance of the probabilities from the true class as 0 and 1, from 0 to 2 (Brier,
            Monthly Weather Review, 1950).
        calibration_error: see `calibration_error`.
        intervals: by name of the metric; those of accuracy and top-3 accuracy by `share_interval`, the others by
            `bootstrap_intervals`. min_class_recall and calibration_error have none: clips that a resample repeats bias
            them.
        confusion: of shape (n_classes, n_classes); true classes in rows, predicted classes in columns.
        per_class: one row for each class; columns precision, recall, recall_low, recall_high (see `share_interval`; 0
            and 1 without clips), f1, from 0 to 1, 0 where undefined; and clips.
    """

    clips: int
    accuracy: float
    balanced_accuracy: float
    macro_f1: float
    top3_accuracy: float
    min_class_recall: float
    loss: float
    brier_score: float
    calibration_error: float
    intervals: dict[str, Interval]
    confusion: IntArray
    per_class: pd.DataFrame

    @property
    def accuracy_low(self) -> float:
        """The lower end of the interval of the accuracy."""
        return self.intervals["accuracy"][0]

    @property
    def accuracy_high(self) -> float:
        """The upper end of the interval of the accuracy."""
        return self.intervals["accuracy"][1]


def score(probabilities: FloatArray, labels: IntArray, recordings: Sequence[Any], confidence: float = 0.95) -> Scores:
    """Compute the metrics of predicted probabilities.

    Args:
        probabilities: of shape (clips, n_classes).
        labels: true classes, of shape (clips,).
        recordings: the source recording of each clip; clips of one recording are not independent.
        confidence: of the intervals.
    Raises:
        ValueError: no clips, or a probability that is NaN or infinite.
    """
    from sklearn.metrics import confusion_matrix

    if len(labels) == 0:
        raise ValueError("no clips to score")
    if not np.isfinite(probabilities).all():
        raise ValueError("a probability is NaN or infinite")
    classes = np.arange(probabilities.shape[1])
    predicted = probabilities.argmax(axis=1)
    numbers = pd.factorize(np.asarray(recordings))[0].astype(np.int64)
    outcomes = _Outcomes(probabilities, labels)
    means = {name: float(values[0]) for name, values in outcomes.means(np.ones((1, len(labels)))).items()}
    intervals = bootstrap_intervals(outcomes.means, numbers, confidence)
    for name, hits in (("accuracy", predicted == labels), ("top3_accuracy", _in_top(probabilities, labels))):
        intervals[name] = share_interval(hits, numbers, confidence)
    per_class = _scores_by_class(predicted, labels, numbers, classes, confidence)
    return Scores(
        **means,
        clips=len(labels),
        min_class_recall=float(per_class["recall"][per_class["clips"] > 0].min()),
        calibration_error=calibration_error(probabilities, labels),
        intervals=intervals,
        confusion=confusion_matrix(labels, predicted, labels=classes),
        per_class=per_class,
    )


def difference_intervals(
    first: FloatArray, second: FloatArray, labels: IntArray, recordings: Sequence[Any], confidence: float = 0.95
) -> dict[str, Interval]:
    """Return intervals of the differences between two models' metrics (first - second), by `bootstrap_intervals`.

    Both models are scored on the same clips in every resample, so a difference has a narrower interval than the two
    metrics have. The names are those of `Scores`; min_class_recall and calibration_error have none.

    Args:
        first, second: probabilities of the same classes, of shape (clips, n_classes).
        labels, recordings, confidence: see `score`.
    """
    models = [_Outcomes(probabilities, labels) for probabilities in (first, second)]

    def differences(weights: FloatArray) -> dict[str, FloatArray]:
        one, other = (model.means(weights) for model in models)
        return {name: one[name] - other[name] for name in one}

    return bootstrap_intervals(differences, pd.factorize(np.asarray(recordings))[0].astype(np.int64), confidence)


class _Outcomes:
    """What the clips add to the metrics that are means over clips or classes."""

    def __init__(self, probabilities: FloatArray, labels: IntArray) -> None:
        from scipy.sparse import csr_array

        rows = np.arange(len(labels))
        predicted = probabilities.argmax(axis=1)
        true_probabilities = probabilities[rows, labels]
        self.of_clips = {
            "accuracy": (predicted == labels).astype(float),
            "top3_accuracy": _in_top(probabilities, labels),
            "loss": -np.log(np.clip(true_probabilities, 1e-12, None)),
            "brier_score": (probabilities**2).sum(axis=1) - 2 * true_probabilities + 1,
        }
        ones, shape = np.ones(len(labels)), probabilities.shape
        self.true = csr_array((ones, (rows, labels)), shape)
        self.predicted = csr_array((ones, (rows, predicted)), shape)
        self.hits = csr_array(((predicted == labels).astype(float), (rows, labels)), shape)

    def means(self, weights: FloatArray) -> dict[str, FloatArray]:
        """Return the metrics, each of shape (resamples,), of clips with `weights`, of shape (resamples, clips)."""
        true, predicted, hits = weights @ self.true, weights @ self.predicted, weights @ self.hits
        present = true > 0  # a resample may lack a class
        recall = hits / np.maximum(true, 1)
        f1 = 2 * hits / np.maximum(true + predicted, 1)
        return {
            "balanced_accuracy": recall.sum(axis=1) / present.sum(axis=1),
            "macro_f1": np.where(present, f1, 0).sum(axis=1) / present.sum(axis=1),
            **{name: weights @ values / weights.sum(axis=1) for name, values in self.of_clips.items()},
        }


def _in_top(probabilities: FloatArray, labels: IntArray) -> npt.NDArray[np.bool_]:
    """Return for each clip whether its class is among the TOP most probable ones."""
    of_label = np.take_along_axis(probabilities, labels[:, None], axis=1)
    hits: npt.NDArray[np.bool_] = (probabilities > of_label).sum(axis=1) < TOP
    return hits


def _scores_by_class(
    predicted: IntArray, labels: IntArray, recordings: IntArray, classes: IntArray, confidence: float
) -> pd.DataFrame:
    from sklearn.metrics import precision_recall_fscore_support

    precision, recall, f1, clips = precision_recall_fscore_support(labels, predicted, labels=classes, zero_division=0)
    low, high = np.zeros(len(classes)), np.ones(len(classes))
    for number in classes[clips > 0]:
        own = labels == number
        low[number], high[number] = share_interval(predicted[own] == number, recordings[own], confidence)
    columns = {"precision": precision, "recall": recall, "recall_low": low, "recall_high": high, "f1": f1}
    return pd.DataFrame({**columns, "clips": clips})


def class_table(scores: Scores, classes: Sequence[str]) -> pd.DataFrame:
    """Return `scores.per_class` with the columns class and mistaken_for: the most frequent wrong prediction, or ""."""
    errors = scores.confusion * (1 - np.eye(len(classes), dtype=np.int64))
    mistaken_for = [classes[int(row.argmax())] if row.any() else "" for row in errors]
    return pd.DataFrame({"class": classes, **scores.per_class, "mistaken_for": mistaken_for})


def calibration_error(probabilities: FloatArray, labels: IntArray) -> float:
    """Return the expected calibration error (Guo et al., On Calibration of Modern Neural Networks, ICML 2017, eq. 3).

    The mean of |accuracy - confidence| over CALIBRATION_BINS bins of equal width, weighted by their numbers of clips.

    Args:
        probabilities: of shape (clips, n_classes).
        labels: of shape (clips,).
    """
    bins = calibration_table(probabilities, labels)
    return float(((bins["accuracy"] - bins["confidence"]).abs() * bins["clips"]).sum() / len(labels))


def calibration_table(probabilities: FloatArray, labels: IntArray, level: float = 0.95) -> pd.DataFrame:
    """Return one row for each bin of confidence that has clips.

    Args:
        level: of the Wilson intervals of the accuracy.
    Returns:
        columns confidence (its mean), accuracy, clips, low and high.
    """
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    table = pd.DataFrame({"confidence": confidence, "accuracy": correct, "clips": 1})
    table = table.groupby(bins).agg({"confidence": "mean", "accuracy": "mean", "clips": "sum"})
    ends = [wilson_interval(row.accuracy, row.clips, level) for row in table.itertuples()]
    table[["low", "high"]] = ends
    return table


def mcnemar_p_value(first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]) -> float:
    """Return the p-value of the exact two-sided McNemar test (Psychometrika, 1947) of two models on the same clips.

    Args:
        first: of shape (clips,), whether the first model classifies each clip correctly.
        second: the same for the second model.
    """
    from scipy.stats import binomtest

    only_first = int((first & ~second).sum())
    discordant = int((first != second).sum())
    return float(binomtest(only_first, discordant).pvalue) if discordant else 1.0
