"""Calibration: a temperature for the probabilities, and the least probability that each class needs.

Both are fitted on clips that the network was not trained on (`train.calibration_fold`), and never on the test fold.
"""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import Field

from audiocnn.config import Share
from audiocnn.intervals import FloatArray, IntArray
from audiocnn.strict_model import StrictModel

TRUE_POSITIVE_RATE = 0.95  # fraction of the correctly classified clips that are to reach the threshold
# A fold of which every clip is classified correctly would have the temperature 0.
TEMPERATURE_BOUNDS = (0.25, 4.0)
PSEUDO_COUNT = 20  # weight, in clips, of the threshold of all classes: the fewest of which one clip is 5 %
MAX_THRESHOLD = 0.99  # above it, differences of rounding between two runtimes would decide


class Calibration(StrictModel):
    """What model.json contains of the calibration.

    Attributes:
        temperature: the logits are divided by it.
        thresholds: of each class; a recording whose most probable class is below its threshold is unknown.
    """

    temperature: Annotated[float, Field(gt=0)]
    thresholds: dict[str, Share]

    def __str__(self) -> str:
        low, high = min(self.thresholds.values()), max(self.thresholds.values())
        return f"temperature {self.temperature:.3f}, thresholds from {low:.2f} to {high:.2f}"


def fit_calibration(logits: FloatArray, labels: IntArray, classes: Sequence[str]) -> Calibration:
    """Fit a temperature and thresholds.

    Args:
        logits: of the network, of shape (clips, n_classes).
        labels: true classes, of shape (clips,).
        classes: names in the order of the logits.
    """
    from scipy.special import softmax

    temperature = fit_temperature(logits, labels)
    thresholds = fit_thresholds(softmax(logits / temperature, axis=1), labels)
    return Calibration(
        temperature=temperature, thresholds=dict(zip(classes, (float(value) for value in thresholds), strict=True))
    )


def fit_temperature(logits: FloatArray, labels: IntArray) -> float:
    """Return the temperature, within TEMPERATURE_BOUNDS, with the least mean cross-entropy (Guo et al., ICML 2017).

    Args:
        logits, labels: as for `fit_calibration`.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    rows = np.arange(len(labels))

    def loss(exponent: float) -> float:
        return -float(log_softmax(logits / np.exp(exponent), axis=1)[rows, labels].mean())

    found = minimize_scalar(loss, bounds=np.log(TEMPERATURE_BOUNDS), method="bounded")
    return float(np.exp(found.x))


def fit_thresholds(probabilities: FloatArray, labels: IntArray) -> FloatArray:
    """Return the least probability of each class, of shape (n_classes,).

    The rule is that of the maximum softmax probability (Hendrycks & Gimpel, ICLR 2017): the threshold of a class is the
    quantile that TRUE_POSITIVE_RATE of its correctly classified clips reach. A fold has few clips of a class, so the
    threshold is a weighted mean with that of all classes together, which counts as PSEUDO_COUNT clips do. If no clip is
    classified correctly, nothing says what to refuse, and the thresholds are 0.

    Args:
        probabilities: of shape (clips, n_classes).
        labels: true classes, of shape (clips,).
    """
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    correct = predicted == labels
    if not correct.any():
        return np.zeros(probabilities.shape[1])
    common = _threshold(confidence[correct])
    thresholds = np.full(probabilities.shape[1], common)
    for index in np.unique(labels[correct]):
        own = confidence[correct & (labels == index)]
        thresholds[index] = (len(own) * _threshold(own) + PSEUDO_COUNT * common) / (len(own) + PSEUDO_COUNT)
    limited: FloatArray = np.minimum(thresholds, MAX_THRESHOLD)
    return limited


def accepted(probabilities: FloatArray, classes: Sequence[str], calibration: Calibration) -> npt.NDArray[np.bool_]:
    """Return which rows of `probabilities`, of shape (clips, n_classes), are not unknown."""
    thresholds = np.array([calibration.thresholds[name] for name in classes])
    reached: npt.NDArray[np.bool_] = probabilities.max(axis=1) >= thresholds[probabilities.argmax(axis=1)]
    return reached


def _threshold(confidence: FloatArray) -> float:
    """Return a confidence that at least TRUE_POSITIVE_RATE of the clips reach."""
    return float(np.quantile(confidence, 1 - TRUE_POSITIVE_RATE, method="lower"))
