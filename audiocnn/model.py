"""ResidualBlock, AudioCNN: the network and nothing else."""

from typing import cast

import torch
from torch import Tensor, nn

from audiocnn.config import Architecture

STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))  # filters, blocks


class BandNorm(nn.Module):
    """(x - mean) / deviation, band by band, after what lies `top_db` below the clip's maximum was raised to there.

    The statistics are buffers, so that they travel with the weights; `set` gives them those of the training clips.
    Shape: (batch, 1, n_mels, frames) in dB -> the same; where band_norm is off, mean 0 and deviation 1 leave dB.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, n_mels: int, top_db: float) -> None:
        super().__init__()
        self.top_db = top_db
        self.register_buffer("mean", torch.zeros(n_mels, 1))
        self.register_buffer("deviation", torch.ones(n_mels, 1))

    def clamp(self, spectrograms: Tensor) -> Tensor:
        """What the statistics are of: the first half of `forward`, for spectrograms (..., n_mels, frames)."""
        if not self.top_db:
            return spectrograms
        return torch.maximum(spectrograms, spectrograms.amax((-2, -1), keepdim=True) - self.top_db)

    def set(self, mean: Tensor, deviation: Tensor) -> None:
        """Take the statistics of the training clips, each of shape (n_mels,), in dB."""
        self.mean.copy_(mean[:, None])
        self.deviation.copy_(deviation[:, None])

    def forward(self, spectrograms: Tensor) -> Tensor:
        """The normalised spectrograms.

        In training they come clamped, before they were mixed and masked: the maximum of what comes is not the clip's.
        """
        x = spectrograms if self.training else self.clamp(spectrograms)
        return (x - self.mean) / self.deviation


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch norm and a skip (He et al., Deep Residual Learning, 2015, figure 2).

    Shape: (batch, in_channels, height, width) -> (batch, out_channels, height / stride, width / stride).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.skip: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.skip = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """The block's output; see the class for the shapes."""
        y = self.relu(self.bn1(self.conv1(x)))
        return cast(Tensor, self.relu(self.bn2(self.conv2(y)) + self.skip(x)))


class AudioCNN(nn.Module):
    """A residual network on mono log-mel spectrograms: a 7x7 stem, stages of 3, 4, 6 and 3 blocks, a linear head.

    Args:
        n_classes: length of the output.
        n_mels: bands of the spectrograms.
        architecture: see there.
    """

    def __init__(self, n_classes: int, n_mels: int, architecture: Architecture) -> None:
        super().__init__()
        self.n_classes = n_classes
        self.architecture = architecture
        self.filters = filters = [max(1, round(count * architecture.width)) for count, _ in STAGES]
        self.normalise: nn.Module = nn.Identity()
        if architecture.band_norm or architecture.top_db:
            self.normalise = BandNorm(n_mels, architecture.top_db)
        self.stem = _stem(filters[0], architecture.time_stride)
        channels = filters[0]
        for index, (out, (_, blocks)) in enumerate(zip(filters, STAGES, strict=True)):
            first = ResidualBlock(channels, out, 1 if index == 0 else 2)
            rest = [ResidualBlock(out, out) for _ in range(blocks - 1)]
            self.add_module(f"stage{index + 1}", nn.Sequential(first, *rest))
            channels = out
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(architecture.dropout), nn.Linear(channels, n_classes)
        )

    def forward(self, spectrograms: Tensor) -> Tensor:
        """Logits.

        Args:
            spectrograms: shape (batch, 1, n_mels, frames), in dB.
        Returns:
            shape (batch, n_classes).
        """
        x = self.stem(self.normalise(spectrograms))
        for index in range(len(STAGES)):
            x = self.get_submodule(f"stage{index + 1}")(x)
        return cast(Tensor, self.head(x))


def _stem(filters: int, time_stride: int) -> nn.Sequential:
    """A 7x7 convolution and a 3x3 pooling; both halve the bands, and as many of them the frames as time_stride says."""
    of_conv, of_pool = {4: (2, 2), 2: (1, 2), 1: (1, 1)}[time_stride]
    return nn.Sequential(
        nn.Conv2d(1, filters, 7, stride=(2, of_conv), padding=3, bias=False),
        nn.BatchNorm2d(filters),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=(2, of_pool), padding=1),
    )


def feature_maps(network: AudioCNN, spectrograms: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """One forward pass and what the named layers gave in it, collected by hooks.

    Args:
        spectrograms: shape (batch, 1, n_mels, frames).
    Returns:
        the logits (batch, n_classes), and for "stem", "stage1.0", ..., "stage4.2" a tensor (batch, channels, h, w).
    """
    maps: dict[str, Tensor] = {}
    layers = [(name, layer) for name, layer in network.named_modules() if isinstance(layer, ResidualBlock)]
    hooks = []
    for name, layer in [("stem", network.stem), *layers]:

        def keep(_layer: nn.Module, _inputs: object, output: Tensor, name: str = name) -> None:
            maps[name] = output.detach()

        hooks.append(layer.register_forward_hook(keep))
    try:
        logits = network(spectrograms)
    finally:
        for hook in hooks:
            hook.remove()
    return logits, maps


def count_parameters(network: nn.Module) -> int:
    """Number of trained values."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
