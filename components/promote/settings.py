"""The block `promote` of params.yaml: the policy that a challenger has to meet."""

from typing import Annotated, Literal

from pydantic import Field

from audiocnn.config import Positive, PositiveInt, Share
from audiocnn.strict_model import StrictModel


class PromoteSettings(StrictModel):
    """Block `promote`.

    Attributes:
        approval: `automatic`, or `person`: the decision is recorded and waits for `audiocnn approve`.
        min_accuracy: minimum accuracy on the test fold.
        min_class_recall: minimum recall of every class.
        max_calibration_error: maximum of the expected calibration error.
        max_megabytes: maximum size of the weights in MB.
        max_latency_ms: maximum of the median time from a sound file to its probabilities on one CPU thread.
        min_paired_clips: minimum number of clips that neither model was trained on.
        level: of the first comparison on the same clips: the probability that an equal model is promoted.
        margin: the version is refused if the lower confidence bound of the difference in accuracy is below minus this.
        max_class_drop: the version is refused if the recall of a class fell by more than this, by the upper confidence
            bound of the difference.
    """

    approval: Literal["automatic", "person"]
    min_accuracy: Share
    min_class_recall: Share
    max_calibration_error: Share
    max_megabytes: Positive
    max_latency_ms: Positive
    min_paired_clips: PositiveInt
    level: Annotated[float, Field(gt=0, lt=0.5)]
    margin: Share
    max_class_drop: Share
