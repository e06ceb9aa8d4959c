"""The learning rate schedule and the seeds of a training."""

import hashlib

import torch

from audiocnn.config import TrainSettings


def one_cycle(
    optimizer: torch.optim.Optimizer, settings: TrainSettings, steps: int
) -> torch.optim.lr_scheduler.OneCycleLR:
    """Return the one-cycle schedule (Smith and Topin, 2018): up to max_lr in pct_start of the steps, then down.

    Both phases are half a cosine.
    """
    total = max(4, steps)
    # OneCycleLR divides by the length of both phases, so neither may be empty in a short training.
    pct_start = min(max(settings.pct_start, 2 / total), 1 - 1 / total)
    return torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.max_lr, total_steps=total, pct_start=pct_start, cycle_momentum=settings.cycle_momentum
    )


def derive_seed(*numbers: int) -> int:
    """Return a seed of 56 bits that is unrelated to the seeds of neighboring numbers."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, numbers)).encode()).digest()[:7], "big")
