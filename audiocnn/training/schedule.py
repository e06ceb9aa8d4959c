"""The one-cycle schedule and the seeds of a training."""

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

from audiocnn.config import TrainSettings


@dataclass(frozen=True)
class Schedule:
    """What AdamW uses in each step of a training, both float64 of shape (steps,) on the CPU.

    Attributes:
        lr: the learning rates.
        beta1: the decay rates of the first moment.
    """

    lr: Tensor
    beta1: Tensor


def one_cycle(settings: TrainSettings, steps: int) -> Schedule:
    """Return the one-cycle schedule (Smith and Topin, 2018): up to max_lr in pct_start of the steps, then down.

    Both phases are half a cosine. beta1 moves against the learning rate if `cycle_momentum` is set.
    """
    total = max(4, steps)
    # OneCycleLR divides by the length of both phases, so neither may be empty in a short training.
    pct_start = min(max(settings.pct_start, 2 / total), 1 - 1 / total)
    optimizer = torch.optim.AdamW([torch.zeros(1)], settings.lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.max_lr, total_steps=total, pct_start=pct_start, cycle_momentum=settings.cycle_momentum
    )
    optimizer.step()  # nothing to optimize, but OneCycleLR warns without it
    values = torch.empty((2, steps), dtype=torch.float64)
    for step in range(steps):
        group = optimizer.param_groups[0]
        values[0, step], values[1, step] = group["lr"], group["betas"][0]
        schedule.step()
    return Schedule(*values)


def derive_seed(*numbers: int) -> int:
    """Return a seed of 56 bits that is unrelated to the seeds of neighboring numbers."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, numbers)).encode()).digest()[:7], "big")
