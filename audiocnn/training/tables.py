"""What the steps of an epoch read on the device: the order of the clips, their augmentation, the learning rates."""

from dataclasses import fields

import torch
from torch import Tensor

from audiocnn.config import TrainSettings
from audiocnn.training.augmentation import AugmentParams
from audiocnn.training.schedule import Schedule, derive_seed


class EpochTables:
    """Tables of one epoch on the device, and the position in them.

    They are filled in place: a CUDA graph reads the same addresses in every replay.

    Attributes:
        order: int64 (clips,), the positions of the clips in the order in which they are learned from.
        params: the augmentation of these clips.
        lr: learning rate of each step, (steps,). float64 on a CPU and float32 on a GPU, as the fused AdamW reads it.
        step: int64 (1,), the completed steps of the epoch.
    """

    def __init__(self, clips: int, batch_size: int, settings: TrainSettings, device: torch.device) -> None:
        self._batch_size, self._settings = batch_size, settings
        self.steps = -(-clips // batch_size)
        self.order = torch.zeros(clips, dtype=torch.int64, device=device)
        self.params = AugmentParams.sample(clips, batch_size, settings.augment, torch.Generator(), device)
        self.lr = torch.zeros(self.steps, dtype=rate_dtype(device), device=device)
        self.step = torch.zeros(1, dtype=torch.int64, device=device)
        self._offsets = torch.arange(batch_size, device=device)

    def fill(self, epoch: int, step: int, schedule: Schedule) -> Tensor:
        """Draw the numbers of an epoch, counted from 1, of which `step` steps are completed.

        The whole epoch's random numbers are drawn at once, so that a resume within it gets the same ones.

        Returns:
            the order of the clips, on the CPU.
        """
        clips = len(self.order)
        generator = torch.Generator().manual_seed(derive_seed(self._settings.seed, epoch))
        order = torch.randperm(clips, generator=generator)
        cpu = torch.device("cpu")
        params = AugmentParams.sample(clips, self._batch_size, self._settings.augment, generator, cpu)
        for field in fields(params):
            getattr(self.params, field.name).copy_(getattr(params, field.name))
        self.order.copy_(order)
        self.lr.copy_(schedule.lr[(epoch - 1) * self.steps : epoch * self.steps])
        self.step.fill_(step)
        return order

    def positions(self, clips: int) -> Tensor:
        """Return the positions in the epoch of the next `clips` clips, int64 (clips,) on the device."""
        return self.step * self._batch_size + self._offsets[:clips]


def rate_dtype(device: torch.device) -> torch.dtype:
    """Return the type in which the fused AdamW reads a learning rate."""
    return torch.float64 if device.type == "cpu" else torch.float32
