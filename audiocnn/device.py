"""The compute device and the precision of its arithmetic."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from audiocnn.errors import AudioCNNError


class DeviceError(AudioCNNError):
    """The requested device is unknown or not available."""


def resolve_device(name: str) -> torch.device:
    """Return the device of this name; `auto` selects the first CUDA device, or the CPU where there is none.

    Raises:
        DeviceError: PyTorch does not know the name, or CUDA is not available.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(f"unknown device {name!r}; use auto, cpu, cuda or cuda:1") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise DeviceError(f"device {name}: CUDA is not available; use auto or cpu")
    return device


@contextmanager
def memory_errors(advice: str) -> Iterator[None]:
    """Turn the error of a GPU without enough free memory into DeviceError; `advice` says how to need less."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        reason = str(error).partition(". ")[0]
        raise DeviceError(f"not enough free memory on the GPU ({reason}); {advice}") from error


def has_fast_bf16(device: torch.device) -> bool:
    """Return whether the hardware has bfloat16 instructions: NVIDIA GPUs since Ampere, CPUs with AMX or AVX512_BF16.

    Elsewhere bfloat16 is emulated, which is slower than float32.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    features = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    return any(features.get(name, False) for name in ("amx_bf16", "avx512_bf16"))


@contextmanager
def full_float32() -> Iterator[None]:
    """Turn TensorFloat-32 off in a block. cuDNN uses it by default, and it keeps 10 of float32's 23 mantissa bits."""
    operations = (torch.backends.cudnn.conv, torch.backends.cuda.matmul)  # type: ignore[attr-defined]
    before = [operation.fp32_precision for operation in operations]
    try:
        for operation in operations:
            operation.fp32_precision = "ieee"
        yield
    finally:
        for operation, precision in zip(operations, before, strict=True):
            operation.fp32_precision = precision
