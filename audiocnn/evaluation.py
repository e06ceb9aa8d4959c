"""Scores with confidence intervals, confusion, calibration; paired comparison of two models on the same clips."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
BINS = 15  # of the calibration error, as in Guo et al.


@dataclass(frozen=True)
class ClassScores:
    """One entry a class: precision, recall and F1 as shares (0 where undefined), support in clips."""

    precision: Floats
    recall: Floats
    f1: Floats
    support: Ints


@dataclass(frozen=True)
class Scores:
    """What a model reached. Shares are 0 to 1, loss in nats; confusion (n_classes, n_classes) has the truth in rows."""

    clips: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    macro_f1: float
    min_class_recall: float
    loss: float
    calibration_error: float
    confusion: Ints
    per_class: ClassScores


@dataclass(frozen=True)
class Paired:
    """Two models on the same clips. difference = accuracy of the first minus that of the second."""

    clips: int
    only_first: int
    only_second: int
    difference: float
    p_value: float


def score(probabilities: Floats, labels: Ints, confidence: float = 0.95) -> Scores:
    """Scores of probabilities (clips, n_classes) against labels (clips,).

    Raises:
        ValueError: no clips, or a probability that is no number.
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    if len(labels) == 0:
        raise ValueError("no clips to score")
    if not np.isfinite(probabilities).all():
        raise ValueError("a probability is NaN or infinite")
    classes = np.arange(probabilities.shape[1])
    said = probabilities.argmax(axis=1)
    hits = int((said == labels).sum())
    low, high = wilson(hits / len(labels), len(labels), confidence)
    precision, recall, f1, support = precision_recall_fscore_support(labels, said, labels=classes, zero_division=0)
    present = support > 0
    own = probabilities[np.arange(len(labels)), labels]
    return Scores(
        clips=len(labels),
        accuracy=hits / len(labels),
        accuracy_low=low,
        accuracy_high=high,
        macro_f1=float(f1[present].mean()),
        min_class_recall=float(recall[present].min()),
        loss=float(-np.log(np.clip(own, 1e-12, None)).mean()),
        calibration_error=calibration_error(probabilities, labels),
        confusion=confusion_matrix(labels, said, labels=classes),
        per_class=ClassScores(precision, recall, f1, support),
    )


def class_table(scores: Scores, classes: Sequence[str]) -> pd.DataFrame:
    """One row a class, in their order: class, precision, recall, f1, clips, and the class that most others went to.

    `mistaken_for` is "" where no clip was named wrongly.
    """
    wrong = scores.confusion * (1 - np.eye(len(classes), dtype=np.int64))
    taken = [classes[int(row.argmax())] if row.any() else "" for row in wrong]
    per_class = scores.per_class
    shares = {"precision": per_class.precision, "recall": per_class.recall, "f1": per_class.f1}
    return pd.DataFrame({"class": classes, **shares, "clips": per_class.support, "mistaken_for": taken})


def wilson(share: float, clips: int, confidence: float) -> tuple[float, float]:
    """The interval of a share of so many clips, 0 to 1.

    Wilson's (JASA, 1927): unlike the normal one it is right near 0 and 1 and for few clips. The share need not be a
    whole number of clips: it may be a mean over several models on the same clips, which are not more clips for that.
    """
    from scipy.stats import norm

    z = float(norm.ppf((1 + confidence) / 2))
    middle = (share + z**2 / (2 * clips)) / (1 + z**2 / clips)
    reach = z / (1 + z**2 / clips) * math.sqrt(share * (1 - share) / clips + z**2 / (4 * clips**2))
    return max(0.0, middle - reach), min(1.0, middle + reach)


def calibration_error(probabilities: Floats, labels: Ints) -> float:
    """Expected calibration error (Guo et al., On Calibration of Modern Neural Networks, ICML 2017, equation 3).

    The mean over 15 equal bins of confidence, weighted by their clips, of |accuracy - confidence|; 0 is perfect.
    """
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = [abs(correct[bins == b].mean() - confidence[bins == b].mean()) * (bins == b).mean() for b in np.unique(bins)]
    return float(sum(gaps))


def compare(first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]) -> Paired:
    """Exact McNemar test (Psychometrika, 1947) of two models' hits on the same clips, each of shape (clips,).

    p_value: the two-sided probability of a split at least as uneven among the clips on which they differ, were both
    equally good.
    """
    from scipy.stats import binomtest

    only_first = int((first & ~second).sum())
    only_second = int((second & ~first).sum())
    differing = only_first + only_second
    p_value = float(binomtest(only_first, differing).pvalue) if differing else 1.0
    return Paired(len(first), only_first, only_second, (only_first - only_second) / max(1, len(first)), p_value)
