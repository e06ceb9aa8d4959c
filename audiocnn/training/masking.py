"""Masking of mel bands and frames."""

import torch
from torch import Tensor

from audiocnn.config import AugmentSettings

ZERO_DB = 0.0  # fills the masks of the recipe `seed`, as in the project that it reproduces


def mask(
    spectrograms: Tensor, bands: tuple[Tensor, Tensor], frames: tuple[Tensor, Tensor], settings: AugmentSettings
) -> Tensor:
    """Mask a span of mel bands and a span of frames in every clip (Park et al., SpecAugment, Interspeech 2019).

    Widths are uniform in [0, freq_mask) bands and [0, time_mask) frames, positions uniform in the remaining range.

    Args:
        spectrograms: (batch, n_mels, frames) in dB.
        bands, frames: relative width and position of the mask, each of shape (batch,) in [0, 1).
    """
    masked_bands = _spans(*bands, spectrograms.shape[1], settings.freq_mask)
    masked_frames = _spans(*frames, spectrograms.shape[2], settings.time_mask)
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
