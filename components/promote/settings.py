"""The block `promote` of params.yaml: the policy that a challenger has to meet."""

from typing import Literal

from audiocnn.config import Positive, PositiveInt, Share
from audiocnn.strict_model import StrictModel


class PromoteSettings(StrictModel):
    """Block `promote`.

    Attributes:
        approval: `automatic`, or `person`: the decision is recorded and waits for `audiocnn approve`.
        min_accuracy: minimum accuracy on the test fold.
        min_class_recall: minimum recall of every class.
        max_accuracy_drop: maximum loss of accuracy against the champion on the same clips.
        min_paired_clips: minimum number of clips that neither model was trained on.
        max_latency_ms: maximum of the median time from a sound file to its probabilities on one CPU thread.
    """

    approval: Literal["automatic", "person"]
    min_accuracy: Share
    min_class_recall: Share
    max_accuracy_drop: Share
    min_paired_clips: PositiveInt
    max_latency_ms: Positive
