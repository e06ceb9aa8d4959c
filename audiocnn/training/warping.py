"""Changes of tempo, pitch and tone color of spectrograms: resampling along frames and bands, and a random equalizer."""

import torch
from torch import Tensor
from torch.nn import functional as F


def warp_time(spectrograms: Tensor, rate: Tensor, shift: Tensor) -> Tensor:
    """Play each clip faster or slower, and shift it circularly, by linear interpolation between frames.

    Output frame t is the input at t * rate + shift * frames, modulo the number of frames. A whole number of frames at
    rate 1 permutes the frames.

    Args:
        spectrograms: (batch, n_mels, frames).
        rate: (batch,); 2 is twice as fast.
        shift: (batch,), as a share of the clip.
    """
    frames = spectrograms.shape[2]
    position = torch.arange(frames, device=rate.device) * rate[:, None] + shift[:, None] * frames
    first = position.floor()
    index = first.long() % frames
    return _interpolate(spectrograms, index, (index + 1) % frames, position - first, 2)


def warp_bands(spectrograms: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Change the pitch of each clip by linear interpolation between mel bands.

    Output band b is the input at b * scale + shift; beyond an edge, it is the outermost band.

    Args:
        spectrograms: (batch, n_mels, frames).
        scale: (batch,).
        shift: (batch,), in bands.
    """
    last = spectrograms.shape[1] - 1
    position = (torch.arange(last + 1, device=scale.device) * scale[:, None] + shift[:, None]).clamp(0, last)
    first = position.floor()
    index = first.long()
    return _interpolate(spectrograms, index, (index + 1).clamp(max=last), position - first, 1)


def equalize(spectrograms: Tensor, gains: Tensor) -> Tensor:
    """Add to every band of a clip a gain in dB, interpolated linearly between gains at equal distances.

    Args:
        spectrograms: (batch, n_mels, frames) in dB.
        gains: (batch, points) in dB; the first is that of the lowest band, the last that of the highest.
    """
    bands = spectrograms.shape[1]
    curve = F.interpolate(gains[:, None], bands, mode="linear", align_corners=True)
    return spectrograms + curve.transpose(1, 2)


def _interpolate(spectrograms: Tensor, first: Tensor, second: Tensor, weight: Tensor, dim: int) -> Tensor:
    """Return (1 - weight) * spectrograms[first] + weight * spectrograms[second] along `dim`, which is 1 or 2.

    Args:
        first, second, weight: (batch, size of `dim`).
    """
    lines = 3 - dim  # the other dimension
    first, second = (index.unsqueeze(lines).expand_as(spectrograms) for index in (first, second))
    return torch.lerp(spectrograms.gather(dim, first), spectrograms.gather(dim, second), weight.unsqueeze(lines))
