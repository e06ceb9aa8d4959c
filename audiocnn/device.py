"""Choosing a device, and what it computes fast."""

import torch

from audiocnn.errors import AudioCNNError


class DeviceError(AudioCNNError):
    """A device that is not here."""


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


def fast_in_bf16(device: torch.device) -> bool:
    """Whether the chip multiplies matrices of bfloat16 in hardware: a GPU since Ampere, a CPU with AMX."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.cpu._is_amx_tile_supported()
