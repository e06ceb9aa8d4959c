"""Mixing of each clip with the next one of its batch, which is a random one, since an epoch is shuffled."""

import torch
from torch import Tensor

from audiocnn.config import AugmentSettings


def sample_weights(clips: int, batch_size: int, settings: AugmentSettings, generator: torch.Generator) -> Tensor:
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


def mixup(spectrograms: Tensor, targets: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Mix the decibels of each clip with the next clip's (Zhang et al., mixup, ICLR 2018): x = w x_i + (1 - w) x_j.

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
