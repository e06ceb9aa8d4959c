"""The exponential moving average of a network's weights."""

from copy import deepcopy

import torch
from torch import Tensor

from audiocnn.model import AudioCNN


class AveragedWeights:
    """An exponential moving average of the parameters and of the float buffers, such as batch norm's statistics.

    After each step, average += (value - average) / horizon (Polyak and Juditsky, 1992, with exponential weights). The
    average starts at the initial values, whose share after n steps is (1 - 1 / horizon)^n, about exp(-n / horizon): a
    horizon of 0.178 of the training leaves 0.4 % of them at its end, a horizon of half the training 14 %.

    torch.optim.swa_utils.AveragedModel reads its counter in every update, which a CUDA graph cannot capture.

    Args:
        network: whose values are averaged, on its device; later steps have to change its tensors in place.
        horizon_steps: steps over which the average forgets; at most 1 makes it a copy of the latest values.

    Attributes:
        network: the averaged copy, for evaluation and checkpoints.
    """

    def __init__(self, network: AudioCNN, horizon_steps: float) -> None:
        self.network = deepcopy(network).requires_grad_(requires_grad=False).eval()
        self._weight = 1 / max(1.0, horizon_steps)
        self._averages, self._copies = _split(self.network)
        self._values, self._originals = _split(network)

    @torch.no_grad()
    def update(self) -> None:
        """Add the network's present values to the average, in place. Integer buffers are copied."""
        torch._foreach_lerp_(self._averages, self._values, self._weight)
        torch._foreach_copy_(self._copies, self._originals)


def _split(network: AudioCNN) -> tuple[list[Tensor], list[Tensor]]:
    """Return the floating-point values of a network, and its integer buffers."""
    values = [value.detach() for value in (*network.parameters(), *network.buffers())]
    return [x for x in values if x.is_floating_point()], [x for x in values if not x.is_floating_point()]
