"""The random numbers of dropout, which follow from the seed, the epoch and the step on every device."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from audiocnn.training.schedule import derive_seed


class DropoutNumbers:
    """The generator that a training's dropout draws from.

    On a GPU it belongs to this training alone, so that its numbers do not depend on which trainings run beside it. A
    CUDA graph in which it is registered reads its seed in every replay.
    """

    def __init__(self, device: torch.device) -> None:
        on_gpu = device.type == "cuda"
        self.generator = torch.Generator(device) if on_gpu else torch.default_generator

    def seed(self, *numbers: int) -> None:
        """Start the numbers of a step anew."""
        self.generator.manual_seed(derive_seed(*numbers))

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Make it the default generator of its device in a block: nn.Dropout accepts no other one."""
        if self.generator.device.type != "cuda":
            yield
            return
        default = torch.cuda.default_generators[self.generator.device.index]
        before = default.graphsafe_get_state()
        default.graphsafe_set_state(self.generator)
        try:
            yield
        finally:
            default.graphsafe_set_state(before)
