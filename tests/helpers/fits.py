"""Trainings of small networks on the demo data, in this process and without services."""

from collections.abc import Callable
from pathlib import Path

import torch

from audiocnn.config import TrainSettings
from audiocnn.data.batches import Batches
from audiocnn.data.clips import split
from audiocnn.data.spectrogram_set import SpectrogramSet
from audiocnn.model import AudioCNN
from audiocnn.training.checkpoint import Checkpoints
from audiocnn.training.distributed import SINGLE_PROCESS, ProcessGroup
from audiocnn.training.loop import Training, fit_many, new_training
from audiocnn.training.state import Epoch

CPU = torch.device("cpu")


def training(folder: Path, settings: TrainSettings, resident_mb: float = 1e6) -> Training:
    """Return a training that has not begun, on all folds but one."""
    data = SpectrogramSet.open(folder)
    rows = split(data.clips, settings.fold)
    return new_training(data, rows, settings.replace(resident_mb=resident_mb), CPU)


def fit(
    network: AudioCNN,
    train: Batches,
    test: Batches,
    settings: TrainSettings,
    on_epoch: Callable[[Epoch], None] | None = None,
    checkpoints: Checkpoints | None = None,
    group: ProcessGroup = SINGLE_PROCESS,
) -> list[Epoch]:
    """Train one network and return its history."""
    training = Training(network, train, test, settings, on_epoch, checkpoints)
    fit_many([training], group)
    return training.history


def same(first: Training, second: Training) -> bool:
    """Return whether history and weights are bit-identical."""
    pairs = zip(first.network.state_dict().values(), second.network.state_dict().values(), strict=True)
    return first.history == second.history and all(torch.equal(a, b) for a, b in pairs)
