"""Augmentation of training batches on their device: mixing and masking.

The random numbers of an epoch are drawn at once on the CPU. They are then the same on every device, and a step neither
waits for the device nor copies anything to it.
"""

from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

from audiocnn.config import AugmentSettings

ZERO_DB = 0.0  # fills the masks of the recipe `seed`, as in the project that it reproduces


@dataclass(frozen=True)
class AugmentParams:
    """Random parameters of the augmentation. Each tensor has shape (clips,), in the order of the clips in the epoch.

    Attributes:
        weight: the clip's own weight in its mixture; 1 leaves it unmixed.
        band_width: relative width of the frequency mask, in [0, 1).
        band_start: relative position of the frequency mask, in [0, 1).
        frame_width: relative width of the time mask, in [0, 1).
        frame_start: relative position of the time mask, in [0, 1).
    """

    weight: Tensor
    band_width: Tensor
    band_start: Tensor
    frame_width: Tensor
    frame_start: Tensor

    @classmethod
    def sample(
        cls, clips: int, batch_size: int, settings: AugmentSettings, generator: torch.Generator, device: torch.device
    ) -> Self:
        """Draw the parameters of one epoch.

        Args:
            generator: on the CPU.
            device: where the result is needed.
        """
        uniform = torch.rand((len(fields(cls)), clips), generator=generator)
        uniform[0] = _sample_weights(clips, batch_size, settings, generator)
        return cls(*uniform.to(device))

    def __getitem__(self, clips: slice) -> Self:
        """Return the parameters of some clips."""
        return type(self)(*(getattr(self, field.name)[clips] for field in fields(self)))


def _sample_weights(clips: int, batch_size: int, settings: AugmentSettings, generator: torch.Generator) -> Tensor:
    """Draw mixing weights, shape (clips,): Beta(alpha, alpha) for the share that is mixed, else 1.

    With mixup, all clips of a batch have the same weight.
    """
    if settings.mix == "none":
        return torch.ones(clips)
    count = -(-clips // batch_size) if settings.mix == "mixup" else clips
    # Beta as a ratio of gammas: torch's Beta accepts no generator, and the global one would not survive a resume.
    shape = torch.full((2, count), settings.mix_alpha, dtype=torch.float64)
    first, second = torch._standard_gamma(shape, generator=generator)  # noqa: SLF001
    weights = torch.where(first + second > 0, first / (first + second), 1.0).float()
    weights[torch.rand(count, generator=generator) >= settings.mix_share] = 1.0
    return weights.repeat_interleave(batch_size)[:clips] if settings.mix == "mixup" else weights


def augment(
    spectrograms: Tensor, targets: Tensor, params: AugmentParams, settings: AugmentSettings
) -> tuple[Tensor, Tensor]:
    """Mix and mask a batch.

    Args:
        spectrograms: float32 (batch, n_mels, frames) in dB.
        targets: float32 (batch, n_classes); each row sums to 1.
        params: of these clips.
    Returns:
        spectrograms and targets of the same shapes.
    """
    if settings.mix == "power":
        spectrograms, targets = mix_power(spectrograms, targets, params.weight)
    elif settings.mix == "mixup":
        spectrograms, targets = mixup(spectrograms, targets, params.weight)
    return mask(spectrograms, params, settings), targets


def one_hot(labels: Tensor, n_classes: int) -> Tensor:
    """Return target probabilities (batch, n_classes) of labels (batch,)."""
    return F.one_hot(labels, n_classes).float()


def mixup(spectrograms: Tensor, targets: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Mix the decibels of each clip with the next clip's (Zhang et al., mixup, ICLR 2018): x = w x_i + (1 - w) x_j.

    The next clip is a random one, since an epoch is shuffled.

    Args:
        spectrograms: (batch, n_mels, frames).
        targets: (batch, n_classes), mixed with the same weight.
        weight: (batch,).
    """
    own = weight[:, None]
    mixed = torch.lerp(spectrograms.roll(1, 0), spectrograms, own[:, :, None])
    return mixed, torch.lerp(targets.roll(1, 0), targets, own)


def mix_power(spectrograms: Tensor, targets: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Mix the sound of each clip with the next clip's, so that its perceived share is `weight`.

    Between-class learning (Tokozume et al., ICLR 2018, equation 2): p = 1 / (1 + 10^((G1 - G2) / 20) (1 - w) / w), with
    the clips' levels G in dB, scales the first waveform and 1 - p the second; the mixture is normalized to keep its
    energy. Powers of uncorrelated sounds add up, so P = (p^2 P1 + (1 - p)^2 P2) / (p^2 + (1 - p)^2).

    Args:
        spectrograms: (batch, n_mels, frames) in dB.
        targets: (batch, n_classes).
        weight: (batch,).
    """
    power = 10 ** (spectrograms / 10)
    level = 10 * power.mean((1, 2)).log10()
    p = 1 / (1 + 10 ** ((level - level.roll(1)) / 20) * (1 - weight) / weight)
    first, second = p.square(), (1 - p).square()
    share = (first / (first + second))[:, None, None]
    mixed = torch.lerp(power.roll(1, 0), power, share).log10() * 10
    return mixed, torch.lerp(targets.roll(1, 0), targets, weight[:, None])


def mask(spectrograms: Tensor, params: AugmentParams, settings: AugmentSettings) -> Tensor:
    """Mask a span of mel bands and a span of frames in every clip (Park et al., SpecAugment, Interspeech 2019).

    Widths are uniform in [0, freq_mask) bands and [0, time_mask) frames, positions uniform in the remaining range.

    Args:
        spectrograms: (batch, n_mels, frames) in dB.
    """
    _, bands, frames = spectrograms.shape
    masked_bands = _spans(params.band_width, params.band_start, bands, settings.freq_mask)
    masked_frames = _spans(params.frame_width, params.frame_start, frames, settings.time_mask)
    masked = masked_bands[:, :, None] | masked_frames[:, None, :]
    if settings.mask_fill == "zero":
        return spectrograms.masked_fill(masked, ZERO_DB)
    return torch.where(masked, spectrograms.mean((1, 2), keepdim=True), spectrograms)


def _spans(width: Tensor, start: Tensor, length: int, max_width: int) -> Tensor:
    """Return a boolean (batch, length) with one span of True per row, from relative widths and starts (batch,)."""
    size = width[:, None] * min(max_width, length)
    first = start[:, None] * (length - size)
    position = torch.arange(length, device=width.device)
    return (position >= first.floor()) & (position < first.floor() + size.floor())
