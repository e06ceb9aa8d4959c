"""Mixing and masking of a batch, on the batch's device."""

import torch
from torch import Tensor
from torch.nn import functional as F

MASK_DB = 0.0  # the seed recipe's masks are filled with 0 dB, as the project that it repeats did


def one_hot(labels: Tensor, n_classes: int) -> Tensor:
    """Target probabilities (batch, n_classes) of labels (batch,)."""
    return F.one_hot(labels, n_classes).float()


def mixup(
    spectrograms: Tensor, targets: Tensor, alpha: float, share: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """With probability `share`, mix the batch with a shuffled copy of itself (Zhang et al., mixup, ICLR 2018).

    x = l x_i + (1 - l) x_j and the same for the targets, with one l ~ Beta(alpha, alpha) for the whole batch.

    Args:
        spectrograms: (batch, n_mels, frames); targets: (batch, n_classes).
        generator: a CPU generator, so that the draws are the same on every device.
    """
    if float(torch.rand((), generator=generator)) >= share:
        return spectrograms, targets
    # Beta as a ratio of gammas: torch's own Beta takes no generator, and global state would break a resume.
    first, second = torch._standard_gamma(torch.full((2,), alpha, dtype=torch.float64), generator=generator).tolist()
    weight = first / (first + second) if first + second > 0 else 1.0
    order = torch.randperm(len(spectrograms), generator=generator).to(spectrograms.device)
    return torch.lerp(spectrograms[order], spectrograms, weight), torch.lerp(targets[order], targets, weight)


def mask(spectrograms: Tensor, freq_mask: int, time_mask: int, generator: torch.Generator) -> Tensor:
    """Blank one band of mels and one stretch of frames in every clip (Park et al., SpecAugment, Interspeech 2019).

    Widths are uniform in [0, freq_mask) bands and [0, time_mask) frames, places uniform in what the width leaves.

    Args:
        spectrograms: (batch, n_mels, frames) in dB.
    """
    batch, bands, frames = spectrograms.shape
    hidden_bands = _stretches(batch, bands, freq_mask, generator).to(spectrograms.device)
    hidden_frames = _stretches(batch, frames, time_mask, generator).to(spectrograms.device)
    hidden = hidden_bands[:, :, None] | hidden_frames[:, None, :]
    return spectrograms.masked_fill(hidden, MASK_DB)


def _stretches(batch: int, length: int, widest: int, generator: torch.Generator) -> Tensor:
    """Boolean (batch, length): one run of True a row."""
    width = torch.rand((batch, 1), generator=generator) * min(widest, length)
    start = torch.rand((batch, 1), generator=generator) * (length - width)
    position = torch.arange(length)
    return (position >= start.floor()) & (position < start.floor() + width.floor())
