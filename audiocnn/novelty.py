"""How well the largest probability of a classifier separates clips of its classes from other clips."""

from dataclasses import dataclass

import numpy as np

from audiocnn.intervals import FloatArray

TRUE_POSITIVE_RATE = 0.95


@dataclass(frozen=True)
class Novelty:
    """Clips of the classes of a model against clips of others (Hendrycks & Gimpel, ICLR 2017).

    Attributes:
        auroc: area under the ROC curve: the share of pairs in which the clip of the model's classes has the larger
            probability; a tie counts half. 0.5 is chance.
        fpr95: share of the clips of other classes that reach the probability which 95 % of the clips of the model's
            classes reach.
    """

    auroc: float
    fpr95: float


def measure_novelty(known: FloatArray, other: FloatArray) -> Novelty:
    """Compare the largest probabilities of clips of the model's classes and of others.

    Args:
        known, other: of shape (clips,), with at least one clip each.
    """
    from sklearn.metrics import roc_auc_score

    is_known = np.repeat([True, False], [len(known), len(other)])
    auroc = float(roc_auc_score(is_known, np.concatenate([known, other])))
    threshold = np.quantile(known, 1 - TRUE_POSITIVE_RATE, method="lower")
    return Novelty(auroc, float((other >= threshold).mean()))
