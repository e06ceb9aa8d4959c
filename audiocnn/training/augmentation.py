"""Augmentation of training batches on their device: warping, equalizing, mixing and masking.

The random numbers of an epoch are drawn at once on the CPU. They are then the same on every device, and a step neither
waits for the device nor copies anything to it.
"""

from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

from audiocnn.config import AugmentSettings
from audiocnn.training.masking import mask
from audiocnn.training.mixing import mix_power, mixup, sample_weights
from audiocnn.training.warping import equalize, warp_bands, warp_time

EQUALIZER_POINTS = 6


@dataclass(frozen=True)
class AugmentParams:
    """Random parameters of the augmentation, in the order of the clips in the epoch.

    Each tensor has shape (clips,); `gains` has shape (clips, EQUALIZER_POINTS).

    Attributes:
        weight: the clip's own weight in its mixture; 1 leaves it unmixed.
        band_width: relative width of the frequency mask, in [0, 1).
        band_start: relative position of the frequency mask, in [0, 1).
        frame_width: relative width of the time mask, in [0, 1).
        frame_start: relative position of the time mask, in [0, 1).
        time_shift: circular shift, as a share of the clip, in [0, 1).
        rate: factor on the tempo.
        band_scale: factor on the position of a band.
        band_shift: shift in mel bands.
        gains: of the equalizer, in dB.
    """

    weight: Tensor
    band_width: Tensor
    band_start: Tensor
    frame_width: Tensor
    frame_start: Tensor
    time_shift: Tensor
    rate: Tensor
    band_scale: Tensor
    band_shift: Tensor
    gains: Tensor

    @classmethod
    def sample(
        cls, clips: int, batch_size: int, settings: AugmentSettings, generator: torch.Generator, device: torch.device
    ) -> Self:
        """Draw the parameters of one epoch.

        Args:
            generator: on the CPU.
            device: where the result is needed.
        """

        def symmetric(limit: float) -> Tensor:
            return limit * (2 * torch.rand(clips, generator=generator) - 1) if limit else torch.zeros(clips)

        # A setting that is off draws nothing, and new numbers come last: recipes keep theirs when settings are added.
        _, band_width, band_start, frame_width, frame_start = torch.rand((5, clips), generator=generator)
        weight = sample_weights(clips, batch_size, settings, generator)
        params = (
            weight,
            band_width,
            band_start,
            frame_width,
            frame_start,
            torch.rand(clips, generator=generator) if settings.roll else torch.zeros(clips),
            symmetric(settings.tempo).exp2(),
            symmetric(settings.pitch_scale).exp2(),
            symmetric(settings.pitch_shift),
            _sample_gains(clips, settings, generator),
        )
        return cls(*(values.to(device) for values in params))

    def __getitem__(self, clips: slice | Tensor) -> Self:
        """Return the parameters of some clips: a slice, or int64 positions on the same device."""
        return type(self)(*(getattr(self, field.name)[clips] for field in fields(self)))


def _sample_gains(clips: int, settings: AugmentSettings, generator: torch.Generator) -> Tensor:
    if not settings.equalizer_db:
        return torch.zeros(clips, EQUALIZER_POINTS)
    return settings.equalizer_db * torch.randn((clips, EQUALIZER_POINTS), generator=generator)


def augment(
    spectrograms: Tensor, targets: Tensor, params: AugmentParams, settings: AugmentSettings
) -> tuple[Tensor, Tensor]:
    """Warp, equalize, mix and mask a batch.

    A CUDA graph can capture it: nothing is read from the device or copied to it, and no shape depends on values.

    Args:
        spectrograms: float32 (batch, n_mels, frames) in dB.
        targets: float32 (batch, n_classes); each row sums to 1.
        params: of these clips.
    Returns:
        spectrograms and targets of the same shapes.
    """
    if settings.roll or settings.tempo:
        spectrograms = warp_time(spectrograms, params.rate, params.time_shift)
    if settings.pitch_scale or settings.pitch_shift:
        spectrograms = warp_bands(spectrograms, params.band_scale, params.band_shift)
    if settings.equalizer_db:
        spectrograms = equalize(spectrograms, params.gains)
    if settings.mix == "power":
        spectrograms, targets = mix_power(spectrograms, targets, params.weight)
    elif settings.mix == "mixup":
        spectrograms, targets = mixup(spectrograms, targets, params.weight)
    bands = params.band_width, params.band_start
    frames = params.frame_width, params.frame_start
    return mask(spectrograms, bands, frames, settings), targets


def one_hot(labels: Tensor, n_classes: int) -> Tensor:
    """Return target probabilities (batch, n_classes) of labels (batch,)."""
    return F.one_hot(labels, n_classes).float()
