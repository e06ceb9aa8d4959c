"""The recipe `seed` keeps the original's numbers: its weights equal those of a plain loop, bit for bit.

A digest of trained weights would hold on one kind of CPU only; the plain loop is computed on the same one. The initial
weights come from the random number generator alone, so their digest holds everywhere.
"""

import hashlib
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.fits import fit
from helpers.project import ROOT
from torch.nn import functional as F

from audiocnn.config import TrainSettings
from audiocnn.data.batches import batches
from audiocnn.data.spectrogram_set import SpectrogramSet
from audiocnn.model import AudioCNN
from audiocnn.training.schedule import derive_seed
from pipeline import settings as pipeline_settings

CLASSES, TRAINING, TEST = 5, 36, 4  # clips; a batch has 32, so the last one of an epoch is smaller
INITIAL = "19d393f0fcc0aef3ee508662c07172c5257e2adfe1a440f2d1b0abb144f46d91"
OVERRIDES = {
    "recipe": "seed",
    "train": {"epochs": 3, "precision": "fp32", "device": "cpu", "architecture": {"width": 0.25}},
}


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def data() -> SpectrogramSet:
    settings = pipeline_settings.load(ROOT / "params.yaml", OVERRIDES).spectrograms
    shape = (TRAINING + TEST, settings.n_mels, settings.frames)
    values = torch.rand(shape, generator=torch.Generator().manual_seed(1)) * 80 - 80
    clips = pd.DataFrame({"category": [str(row % CLASSES) for row in range(len(values))]})
    spec = {"settings": settings.to_dict(), "classes": [str(label) for label in range(CLASSES)]}
    return SpectrogramSet(values.half().numpy(), clips, spec)


def initial_network(settings: TrainSettings) -> AudioCNN:
    torch.manual_seed(settings.seed)
    return AudioCNN(CLASSES, 128, settings.architecture)


def digest(network: AudioCNN) -> str:
    result = hashlib.sha256()
    for name, value in network.state_dict().items():
        result.update(name.encode() + value.contiguous().numpy().tobytes())
    return result.hexdigest()


def masked_span(width: torch.Tensor, start: torch.Tensor, length: int, limit: int) -> torch.Tensor:
    size = width[:, None] * limit
    first = (start[:, None] * (length - size)).floor()
    position = torch.arange(length)
    return (position >= first) & (position < first + size.floor())


def plain_training(network: AudioCNN, spectrograms: torch.Tensor, labels: torch.Tensor) -> None:
    """Train with the original's settings: mixup of 30 % of the batches, two masks of 0 dB, AdamW, one cycle."""
    network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), 0.0005, weight_decay=0.01, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.002, total_steps=6, pct_start=2 / 6)
    for epoch in (1, 2, 3):
        generator = torch.Generator().manual_seed(derive_seed(0, epoch))
        order = torch.randperm(TRAINING, generator=generator)
        _, band_width, band_start, frame_width, frame_start = torch.rand((5, TRAINING), generator=generator)
        gammas = torch._standard_gamma(torch.full((2, 2), 0.2, dtype=torch.float64), generator=generator)
        weights = (gammas[0] / gammas.sum(0)).float()
        weights[torch.rand(2, generator=generator) >= 0.3] = 1.0
        network.train()
        for step, rows in enumerate(order.split(32)):
            torch.manual_seed(derive_seed(0, epoch, step, 0))
            now = slice(32 * step, 32 * step + len(rows))
            x, y = spectrograms[rows], F.one_hot(labels[rows], CLASSES).float()
            x, y = (torch.lerp(values.roll(1, 0), values, weights[step]) for values in (x, y))
            bands = masked_span(band_width[now], band_start[now], 128, 30)
            frames = masked_span(frame_width[now], frame_start[now], 216, 80)
            x = x.masked_fill(bands[:, :, None] | frames[:, None, :], 0.0)
            loss = F.cross_entropy(network(x.unsqueeze(1)), y, label_smoothing=0.1, reduction="sum") / len(rows)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()


def test_initial_weights_are_the_original_ones() -> None:
    settings = pipeline_settings.load(ROOT / "params.yaml", OVERRIDES).train
    assert digest(initial_network(settings)) == INITIAL


def test_three_epochs_equal_those_of_a_plain_loop(data: SpectrogramSet) -> None:
    settings = pipeline_settings.load(ROOT / "params.yaml", OVERRIDES).train
    network, expected = initial_network(settings), initial_network(settings)
    rows = np.split(np.arange(TRAINING + TEST), [TRAINING])
    train, test = (batches(data, part, settings.batch_size, torch.device("cpu")) for part in rows)
    fit(network, train, test, settings)
    spectrograms, labels = torch.from_numpy(data.spectrograms).float(), torch.from_numpy(data.labels)
    plain_training(expected, spectrograms[:TRAINING], labels[:TRAINING])
    assert digest(network) == digest(expected) != INITIAL
