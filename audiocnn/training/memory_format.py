"""The memory format of the network's weights and of the optimizer's moments."""

import torch

from audiocnn.model import AudioCNN


def memory_format(network: AudioCNN, device: torch.device) -> torch.memory_format:
    """Return the memory format in which the network's convolutions are fastest: channels last, where that is safe.

    On a CPU, torch 2.11's backward pass crashes in channels last with 4 and 6 filters (with ONEDNN_MAX_CPU_ISA=AVX2 on
    any machine) and with 8 filters and 431 frames in float32 (with AVX-512, whose registers hold 16 numbers).
    """
    multiples_of_16 = all(filters % 16 == 0 for filters in network.filters)
    return torch.channels_last if device.type == "cuda" or multiples_of_16 else torch.contiguous_format


def match_memory_format(optimizer: torch.optim.Optimizer) -> None:
    """Give loaded moments the strides of their weights.

    The fused AdamW iterates over memory. With a checkpoint from a device of another memory format, it would pair
    weights with the moments of other weights.
    """
    for weight, state in optimizer.state.items():
        for name, value in state.items():
            if value.shape == weight.shape:
                state[name] = torch.empty_like(weight).copy_(value)
