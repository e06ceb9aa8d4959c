"""What happens to a training batch, on the batch's device: mixing and masking.

The random numbers of a whole epoch are drawn at once on the CPU, so that they are the same on every device, and a step
neither waits for the device nor sends it anything.
"""

from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

from audiocnn.config import AugmentSettings

ZERO_DB = 0.0  # the seed recipe's masks are filled with it, as the project that it repeats did


@dataclass(frozen=True)
class Draws:
    """Random numbers, one a clip in each tensor, of shape (clips,), in the order in which the clips come.

    weight: a clip's own share of the mixture, 1 where it stays alone.    The others are uniform in [0, 1).
    """

    weight: Tensor
    band_width: Tensor
    band_place: Tensor
    frame_width: Tensor
    frame_place: Tensor

    @classmethod
    def of_epoch(
        cls, clips: int, batch_size: int, settings: AugmentSettings, generator: torch.Generator, device: torch.device
    ) -> Self:
        """Those of one epoch, from a CPU generator, on `device`."""
        uniform = torch.rand((len(fields(cls)), clips), generator=generator)
        uniform[0] = _weights(clips, batch_size, settings, generator)
        return cls(*uniform.to(device))

    def __getitem__(self, rows: slice) -> Self:
        """Those of some clips."""
        return type(self)(*(getattr(self, field.name)[rows] for field in fields(self)))


def _weights(clips: int, batch_size: int, settings: AugmentSettings, generator: torch.Generator) -> Tensor:
    """Shape (clips,): Beta(alpha, alpha) for the share that is mixed, else 1; mixup has one for a whole batch."""
    if settings.mix == "none":
        return torch.ones(clips)
    count = -(-clips // batch_size) if settings.mix == "mixup" else clips
    # Beta as a ratio of gammas: torch's own Beta takes no generator, and global state would break a resume.
    shape = torch.full((2, count), settings.mix_alpha, dtype=torch.float64)
    first, second = torch._standard_gamma(shape, generator=generator)
    weights = torch.where(first + second > 0, first / (first + second), 1.0).float()
    weights[torch.rand(count, generator=generator) >= settings.mix_share] = 1.0
    return weights.repeat_interleave(batch_size)[:clips] if settings.mix == "mixup" else weights


def augment(spectrograms: Tensor, targets: Tensor, draws: Draws, settings: AugmentSettings) -> tuple[Tensor, Tensor]:
    """A batch as the network is to see it, and its targets.

    Args:
        spectrograms: float32 (batch, n_mels, frames) in dB; targets: float32 (batch, n_classes), summing to 1.
        draws: of these clips.
    """
    x = spectrograms
    if settings.mix == "power":
        x, targets = mix_power(x, targets, draws.weight)
    elif settings.mix == "mixup":
        x, targets = mixup(x, targets, draws.weight)
    return mask(x, draws, settings), targets


def one_hot(labels: Tensor, n_classes: int) -> Tensor:
    """Target probabilities (batch, n_classes) of labels (batch,)."""
    return F.one_hot(labels, n_classes).float()


def mixup(spectrograms: Tensor, targets: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Mix decibels with those of the next clip (Zhang et al., mixup, ICLR 2018): x = w x_i + (1 - w) x_j.

    The next one is anyone: an epoch comes in random order.

    Args:
        spectrograms: (batch, n_mels, frames); targets: (batch, n_classes), mixed alike; weight: (batch,).
    """
    own = weight[:, None]
    mixed = torch.lerp(spectrograms.roll(1, 0), spectrograms, own[:, :, None])
    return mixed, torch.lerp(targets.roll(1, 0), targets, own)


def mix_power(spectrograms: Tensor, targets: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Mix the sound of each clip with the next one's, so that the ear would hear `weight` of the first.

    Between-class learning (Tokozume et al., ICLR 2018, equation 2): p = 1 / (1 + 10^((G1 - G2) / 20) (1 - w) / w), with
    the clips' levels G in dB, scales the first waveform, 1 - p the second, and the mixture keeps their energy. Powers
    of unrelated sounds add up, so P = (p^2 P1 + (1 - p)^2 P2) / (p^2 + (1 - p)^2).

    Args:
        spectrograms: (batch, n_mels, frames) in dB; targets: (batch, n_classes); weight: (batch,).
    """
    power = 10 ** (spectrograms / 10)
    level = 10 * power.mean((1, 2)).log10()
    p = 1 / (1 + 10 ** ((level - level.roll(1)) / 20) * (1 - weight) / weight)
    first, second = p.square(), (1 - p).square()
    share = (first / (first + second))[:, None, None]
    mixed = torch.lerp(power.roll(1, 0), power, share).log10() * 10
    return mixed, torch.lerp(targets.roll(1, 0), targets, weight[:, None])


def mask(spectrograms: Tensor, draws: Draws, settings: AugmentSettings) -> Tensor:
    """Blank one band of mels and one stretch of frames in every clip (Park et al., SpecAugment, Interspeech 2019).

    Widths are uniform in [0, freq_mask) bands and [0, time_mask) frames, places uniform in what the width leaves.

    Args:
        spectrograms: (batch, n_mels, frames) in dB.
    """
    _, bands, frames = spectrograms.shape
    hidden_bands = _stretches(draws.band_width, draws.band_place, bands, settings.freq_mask)
    hidden_frames = _stretches(draws.frame_width, draws.frame_place, frames, settings.time_mask)
    hidden = hidden_bands[:, :, None] | hidden_frames[:, None, :]
    if settings.mask_fill == "zero":
        return spectrograms.masked_fill(hidden, ZERO_DB)
    return torch.where(hidden, spectrograms.mean((1, 2), keepdim=True), spectrograms)


def _stretches(width: Tensor, place: Tensor, length: int, widest: int) -> Tensor:
    """Boolean (batch, length): one run of True a row, from uniform numbers (batch,)."""
    size = width[:, None] * min(widest, length)
    start = place[:, None] * (length - size)
    position = torch.arange(length, device=width.device)
    return (position >= start.floor()) & (position < start.floor() + size.floor())
