"""The network: a residual network on log-mel spectrograms."""

from typing import cast

import torch
from torch import Tensor, nn

from audiocnn.config import Architecture

STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))  # filters, blocks
SQUEEZE = 8  # channels per hidden value of squeeze-excitation


class BandNorm(nn.Module):
    """Clamp a spectrogram to `top_db` below its maximum, then standardize every mel band: (x - mean) / deviation.

    The statistics are buffers, so they are saved with the weights. Initially mean is 0 and deviation is 1, which leaves
    the values in dB.

    Shape: (batch, 1, n_mels, frames) in dB -> the same.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, n_mels: int, top_db: float) -> None:
        super().__init__()
        self.top_db = top_db
        self.register_buffer("mean", torch.zeros(n_mels, 1))
        self.register_buffer("deviation", torch.ones(n_mels, 1))

    def clamp(self, spectrograms: Tensor) -> Tensor:
        """Raise values more than `top_db` below a clip's maximum to that level; 0 changes nothing.

        Shape: (..., n_mels, frames) -> the same.
        """
        if not self.top_db:
            return spectrograms
        return torch.maximum(spectrograms, spectrograms.amax((-2, -1), keepdim=True) - self.top_db)

    def set_statistics(self, mean: Tensor, deviation: Tensor) -> None:
        """Set the statistics of the clamped training clips, each of shape (n_mels,), in dB."""
        self.mean.copy_(mean[:, None])
        self.deviation.copy_(deviation[:, None])

    def forward(self, spectrograms: Tensor) -> Tensor:
        """Return the standardized spectrograms.

        The training loop clamps its batches before augmentation, which changes the maximum; they are not clamped here.
        """
        x = spectrograms if self.training else self.clamp(spectrograms)
        return (x - self.mean) / self.deviation


class SqueezeExcitation(nn.Module):
    """Multiply every channel by a gate in (0, 1): sigmoid(W2 relu(W1 mean + b1) + b2), of the channels' means.

    Hu et al., Squeeze-and-Excitation Networks, CVPR 2018, with a reduction of SQUEEZE.

    Shape: (batch, channels, height, width) -> the same.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(1, channels // SQUEEZE)
        self.gate = nn.Sequential(
            nn.Linear(channels, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, channels), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the weighted channels."""
        return x * cast(Tensor, self.gate(x.mean((2, 3))))[:, :, None, None]


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch norm and a skip connection.

    He et al., Deep Residual Learning for Image Recognition, CVPR 2016, figure 2. With `squeeze_excitation`, the
    channels are weighted before the skip connection is added.

    Shape: (batch, in_channels, height, width) -> (batch, out_channels, height / stride, width / stride), rounded up.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, squeeze_excitation: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.excitation = SqueezeExcitation(out_channels) if squeeze_excitation else nn.Identity()
        self.relu = nn.ReLU(inplace=True)
        self.skip: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.skip = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output; the class documents the shapes."""
        y = self.relu(self.bn1(self.conv1(x)))
        return cast(Tensor, self.relu(self.excitation(self.bn2(self.conv2(y))) + self.skip(x)))


class AudioCNN(nn.Module):
    """A residual network on mono log-mel spectrograms: a 7x7 stem, stages of 3, 4, 6 and 3 blocks, a linear head.

    The stages are those of ResNet-34 (He et al., CVPR 2016, table 1). Optionally, a second input channel holds the
    position of each mel band, as in CoordConv (Liu et al., NeurIPS 2018).

    Args:
        n_classes: number of classes.
        n_mels: number of mel bands.
        architecture: width, dropout, channels and normalization.
    """

    positions: Tensor

    def __init__(self, n_classes: int, n_mels: int, architecture: Architecture) -> None:
        super().__init__()
        self.n_classes = n_classes
        self.architecture = architecture
        self.filters = filters = [max(1, round(count * architecture.width)) for count, _ in STAGES]
        self.normalise: nn.Module = nn.Identity()
        if architecture.band_norm or architecture.top_db:
            self.normalise = BandNorm(n_mels, architecture.top_db)
        if architecture.frequency_channel:
            self.register_buffer("positions", torch.linspace(-1, 1, n_mels)[:, None], persistent=False)
        self.stem = _stem(1 + architecture.frequency_channel, filters[0])
        channels = filters[0]
        for index, (out, (_, blocks)) in enumerate(zip(filters, STAGES, strict=True)):
            squeeze = architecture.squeeze_excitation
            first = ResidualBlock(channels, out, 1 if index == 0 else 2, squeeze)
            rest = [ResidualBlock(out, out, 1, squeeze) for _ in range(blocks - 1)]
            self.add_module(f"stage{index + 1}", nn.Sequential(first, *rest))
            channels = out
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(architecture.dropout), nn.Linear(channels, n_classes)
        )

    def forward(self, spectrograms: Tensor) -> Tensor:
        """Compute logits.

        Args:
            spectrograms: of shape (batch, 1, n_mels, frames), in dB.
        Returns:
            shape (batch, n_classes).
        """
        x = self.normalise(spectrograms)
        if self.architecture.frequency_channel:
            x = torch.cat([x, self.positions.to(x.dtype).expand_as(x)], 1)
        x = self.stem(x)
        for index in range(len(STAGES)):
            x = self.get_submodule(f"stage{index + 1}")(x)
        return cast(Tensor, self.head(x))


def _stem(channels: int, filters: int) -> nn.Sequential:
    """Return a 7x7 convolution and 3x3 max pooling, each with stride 2."""
    return nn.Sequential(
        nn.Conv2d(channels, filters, 7, stride=2, padding=3, bias=False),
        nn.BatchNorm2d(filters),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2, padding=1),
    )


def feature_maps(network: AudioCNN, spectrograms: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Run a forward pass and collect the outputs of the stem and of every block.

    Args:
        spectrograms: of shape (batch, 1, n_mels, frames), in dB.
    Returns:
        the logits (batch, n_classes), and for "stem", "stage1.0", ..., "stage4.2" a tensor (batch, channels, height,
        width).
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
    """Return the number of trainable parameters."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
