"""The random numbers of dropout, which follow from the seed, the epoch and the step on every device."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from audiocnn.training.schedule import derive_seed


class DropoutNumbers:
    """The generator that a training's dropout draws from, so that trainings side by side do not share numbers.

    A CUDA graph in which the generator is registered reads its seed in every replay.
    """

    def __init__(self, device: torch.device) -> None:
        self.generator = torch.Generator(device)

    def seed(self, *numbers: int) -> None:
        """Start the numbers of a step."""
        self.generator.manual_seed(derive_seed(*numbers))

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Let the default generator of the device draw these numbers in a block: nn.Dropout accepts no other one."""
        device = self.generator.device
        if device.type == "cuda":
            default = torch.cuda.default_generators[device.index]
            before = default.graphsafe_get_state()
            default.graphsafe_set_state(self.generator)
            try:
                yield
            finally:
                default.graphsafe_set_state(before)
        else:
            with torch.random.fork_rng(devices=[]):
                torch.set_rng_state(self.generator.get_state())
                yield
