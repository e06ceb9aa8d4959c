"""ResidualBlock, AudioCNN: the network and nothing else."""

from typing import cast

import torch
from torch import Tensor, nn

from audiocnn.errors import AudioCNNError

STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))  # filters, blocks


class DeviceError(AudioCNNError):
    """A device that is not here."""


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
        width: factor on the filters of every stage; 1.0 is 64, 128, 256, 512.
        dropout: share of the pooled features that is dropped in training.
    """

    def __init__(self, n_classes: int, width: float = 1.0, dropout: float = 0.5) -> None:
        super().__init__()
        self.n_classes = n_classes
        self.width = width
        filters = [max(1, round(count * width)) for count, _ in STAGES]
        self.stem = nn.Sequential(
            nn.Conv2d(1, filters[0], 7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(filters[0]),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        channels = filters[0]
        for index, (out, (_, blocks)) in enumerate(zip(filters, STAGES, strict=True)):
            first = ResidualBlock(channels, out, stride=1 if index == 0 else 2)
            rest = [ResidualBlock(out, out) for _ in range(blocks - 1)]
            self.add_module(f"stage{index + 1}", nn.Sequential(first, *rest))
            channels = out
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(channels, n_classes)
        )

    def forward(self, spectrograms: Tensor) -> Tensor:
        """Logits.

        Args:
            spectrograms: shape (batch, 1, n_mels, frames), in dB.
        Returns:
            shape (batch, n_classes).
        """
        x = self.stem(spectrograms)
        for index in range(len(STAGES)):
            x = self.get_submodule(f"stage{index + 1}")(x)
        return cast(Tensor, self.head(x))


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


def resolve_device(name: str) -> torch.device:
    """`auto` is the first CUDA device where there is one, else the CPU; other names as PyTorch knows them.

    Raises:
        DeviceError: no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(f"device {name!r} is no device that PyTorch knows; use auto, cpu, cuda or cuda:1") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise DeviceError(f"device {name} was asked for, and PyTorch sees no CUDA device here; use auto or cpu")
    return device
