"""Classification metrics with confidence intervals and calibration, and the paired comparison of two models.

scipy and scikit-learn are imported where they are used: together they take two seconds, which would delay every
command.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
import pandas as pd

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
CALIBRATION_BINS = 15  # as in Guo et al.


@dataclass(frozen=True)
class ClassScores:
    """Metrics by class, each of shape (n_classes,): shares from 0 to 1, 0 where undefined; support in clips."""

    precision: FloatArray
    recall: FloatArray
    f1: FloatArray
    support: IntArray


@dataclass(frozen=True)
class Scores:
    """Metrics of one model.

    Attributes:
        accuracy: 0 to 1; accuracy_low and accuracy_high are its Wilson interval.
        macro_f1: mean F1 score of the classes that have clips.
        min_class_recall: lowest recall of the classes that have clips.
        loss: mean cross-entropy in nats.
        confusion: of shape (n_classes, n_classes); true classes in rows, predicted classes in columns.
    """

    clips: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    macro_f1: float
    min_class_recall: float
    loss: float
    calibration_error: float
    confusion: IntArray
    per_class: ClassScores


@dataclass(frozen=True)
class PairedComparison:
    """Two models compared on the same clips.

    Attributes:
        only_first: number of clips that only the first model classifies correctly.
        only_second: the same for the second model.
        difference: accuracy of the first model minus that of the second.
        p_value: of the exact McNemar test.
    """

    clips: int
    only_first: int
    only_second: int
    difference: float
    p_value: float


def score(probabilities: FloatArray, labels: IntArray, confidence: float = 0.95) -> Scores:
    """Compute the metrics of predicted probabilities.

    Args:
        probabilities: of shape (clips, n_classes).
        labels: true classes, of shape (clips,).
        confidence: of the interval of the accuracy.
    Raises:
        ValueError: no clips, or a probability that is NaN or infinite.
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    if len(labels) == 0:
        raise ValueError("no clips to score")
    if not np.isfinite(probabilities).all():
        raise ValueError("a probability is NaN or infinite")
    classes = np.arange(probabilities.shape[1])
    predicted = probabilities.argmax(axis=1)
    hits = int((predicted == labels).sum())
    low, high = wilson_interval(hits / len(labels), len(labels), confidence)
    precision, recall, f1, support = precision_recall_fscore_support(labels, predicted, labels=classes, zero_division=0)
    present = support > 0
    true_probabilities = probabilities[np.arange(len(labels)), labels]
    return Scores(
        clips=len(labels),
        accuracy=hits / len(labels),
        accuracy_low=low,
        accuracy_high=high,
        macro_f1=float(f1[present].mean()),
        min_class_recall=float(recall[present].min()),
        loss=float(-np.log(np.clip(true_probabilities, 1e-12, None)).mean()),
        calibration_error=calibration_error(probabilities, labels),
        confusion=confusion_matrix(labels, predicted, labels=classes),
        per_class=ClassScores(precision, recall, f1, support),
    )


def class_table(scores: Scores, classes: Sequence[str]) -> pd.DataFrame:
    """Return the metrics by class as a table.

    Returns:
        columns class, precision, recall, f1, clips and mistaken_for: the most frequent wrong prediction, or "".
    """
    errors = scores.confusion * (1 - np.eye(len(classes), dtype=np.int64))
    mistaken_for = [classes[int(row.argmax())] if row.any() else "" for row in errors]
    per_class = scores.per_class
    shares = {"precision": per_class.precision, "recall": per_class.recall, "f1": per_class.f1}
    return pd.DataFrame({"class": classes, **shares, "clips": per_class.support, "mistaken_for": mistaken_for})


def wilson_interval(share: float, clips: int, confidence: float) -> tuple[float, float]:
    """Return the score interval of a proportion (Wilson, JASA, 1927), within 0 and 1.

    In contrast to scipy's, it accepts a share that is not a whole number of clips: the mean over several models on the
    same clips, whose number remains `clips`.
    """
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    center = (share + z**2 / (2 * clips)) / (1 + z**2 / clips)
    half_width = z / (1 + z**2 / clips) * math.sqrt(share * (1 - share) / clips + z**2 / (4 * clips**2))
    return max(0.0, center - half_width), min(1.0, center + half_width)


def calibration_error(probabilities: FloatArray, labels: IntArray) -> float:
    """Return the expected calibration error (Guo et al., On Calibration of Modern Neural Networks, ICML 2017, eq. 3).

    The mean of |accuracy - confidence| over CALIBRATION_BINS bins of equal width, weighted by their numbers of clips.

    Args:
        probabilities: of shape (clips, n_classes).
        labels: of shape (clips,).
    """
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    gaps = [abs(correct[bins == b].mean() - confidence[bins == b].mean()) * (bins == b).mean() for b in np.unique(bins)]
    return float(sum(gaps))


def compare(first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]) -> PairedComparison:
    """Compare two models with the exact two-sided McNemar test (Psychometrika, 1947).

    Args:
        first: of shape (clips,), whether the first model classifies each clip correctly.
        second: the same for the second model.
    """
    from scipy.stats import binomtest

    only_first = int((first & ~second).sum())
    only_second = int((second & ~first).sum())
    discordant = only_first + only_second
    p_value = float(binomtest(only_first, discordant).pvalue) if discordant else 1.0
    difference = (only_first - only_second) / max(1, len(first))
    return PairedComparison(len(first), only_first, only_second, difference, p_value)
