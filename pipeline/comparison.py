"""Compare two models of the same architecture and classes: weights, probabilities and accuracy."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from audiocnn.classifier import Classifier
from audiocnn.config import TrainSettings
from audiocnn.data.clips import split
from audiocnn.data.spectrogram_set import SpectrogramSet
from mlops.artifacts import Predictions

PAIRS = ("weights_sha256", "accuracy")  # of a Comparison: one value for each model


@dataclass(frozen=True)
class Comparison:
    """How the second model differs from the first.

    Attributes:
        weights_sha256: digests of the two weights files, the registered one first.
        largest_weight_difference: largest absolute difference of two values in the weights files.
        clips: number of clips of the test fold, on which the two are compared.
        largest_probability_difference: largest absolute difference of the probability of a class, over all clips.
        classified_differently: number of clips to which the two models give different classes.
        accuracy: on the test fold, of the registered model first.
    """

    weights_sha256: tuple[str, str]
    largest_weight_difference: float
    clips: int
    largest_probability_difference: float
    classified_differently: int
    accuracy: tuple[float, float]

    @property
    def identical(self) -> bool:
        return len(set(self.weights_sha256)) == 1

    def sentences(self) -> list[str]:
        then, now = self.weights_sha256
        if self.identical:
            return [
                f"The weights are bit-identical (SHA-256 {then[:12]}).",
                f"The accuracy on the {self.clips} clips of the test fold is {self.accuracy[1]:.1%} for both.",
            ]
        return [
            f"The weights are not bit-identical: SHA-256 {then[:12]} then, {now[:12]} now.",
            f"The largest difference of a weight is {self.largest_weight_difference:.2g}.",
            f"The largest difference of a probability is {self.largest_probability_difference:.2g}; "
            f"{self.classified_differently} of the {self.clips} clips of the test fold are classified differently.",
            f"The accuracy on the test fold is {self.accuracy[0]:.1%} then, {self.accuracy[1]:.1%} now.",
        ]

    def to_dict(self) -> dict[str, Any]:
        pairs = {name: dict(zip(("then", "now"), getattr(self, name), strict=True)) for name in PAIRS}
        return {"identical": self.identical, **asdict(self), **pairs}


def compare(then: Classifier, now: Classifier, data: SpectrogramSet, settings: TrainSettings) -> Comparison:
    """Compare two models of the same architecture and classes on the clips of the test fold."""
    _, rows = split(data.clips, **settings.roles)
    first, second = (Predictions.predict(model, data, rows, settings.batch_size) for model in (then, now))
    weights = zip(then.network.state_dict().values(), now.network.state_dict().values(), strict=True)
    return Comparison(
        weights_sha256=(then.weights_sha256, now.weights_sha256),
        largest_weight_difference=max(float((a.double() - b.double()).abs().max()) for a, b in weights),
        clips=len(rows),
        largest_probability_difference=float(np.abs(first.probabilities() - second.probabilities()).max()),
        classified_differently=int((first.table["predicted"] != second.table["predicted"]).sum()),
        accuracy=(float(first.table["correct"].mean()), float(second.table["correct"].mean())),
    )
