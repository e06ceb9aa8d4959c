"""Several devices: one process each, started by `torchrun`, with the same weights and a share of every batch."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed, nn

from audiocnn.device import DeviceError


@dataclass(frozen=True)
class World:
    """The processes that train together: this one's rank from 0, and how many there are."""

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that logs and writes."""
        return self.rank == 0

    def shard(self, batch: Tensor) -> Tensor:
        """This process's clips of a batch: every size-th, so that shares differ by one clip at most."""
        return batch[self.rank :: self.size]

    def broadcast(self, value: Any) -> Any:
        """What the leading process holds, on all of them."""
        if self.size == 1:
            return value
        box = [value]
        distributed.broadcast_object_list(box, src=0)
        return box[0]

    def sum(self, values: Tensor) -> Tensor:
        """The sum over the processes, in place."""
        if self.size > 1:
            distributed.all_reduce(values)
        return values

    def wrap(self, network: nn.Module) -> nn.Module:
        """The network with gradients and batch statistics of all processes, or itself where there is one."""
        if self.size == 1:
            return network
        on_gpu = next(network.parameters()).device.type == "cuda"
        synchronised = nn.SyncBatchNorm.convert_sync_batchnorm(network) if on_gpu else _sync_on_cpu(network)
        # Buffers are the same everywhere already: the statistics are of all processes.
        return nn.parallel.DistributedDataParallel(synchronised, broadcast_buffers=False)


SINGLE_PROCESS = World()


@contextmanager
def world(device: torch.device) -> Iterator[World]:
    """The world that torchrun has set up in the environment; without it, this process alone.

    Args:
        device: of this process; on GPUs each process takes the one of its local rank.
    Raises:
        DeviceError: one GPU was asked for by its number, which all processes would crowd on.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield SINGLE_PROCESS
        return
    on_gpu = device.type == "cuda"
    beside = int(os.environ.get("LOCAL_WORLD_SIZE", size))
    if device.index is not None and on_gpu and beside > 1:
        raise DeviceError(f"device {device} is one GPU, and {beside} processes train here together; use auto or cuda")
    if on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) if device.index is None else device.index)
    distributed.init_process_group("nccl" if on_gpu else "gloo")
    try:
        yield World(distributed.get_rank(), size)
    finally:
        distributed.destroy_process_group()


class _CpuSyncBatchNorm(nn.BatchNorm2d):
    """Batch norm over the clips of all processes (PyTorch's own takes CUDA tensors only)."""

    def forward(self, x: Tensor) -> Tensor:
        """Shape (batch, channels, height, width), kept."""
        if not self.training:
            return super().forward(x)
        from torch.distributed.nn.functional import all_reduce

        values = x.to(torch.promote_types(x.dtype, torch.float32))  # sums of bfloat16 would lose what they add up
        channels = x.shape[1]
        count = torch.full((1,), x.numel() / channels, dtype=values.dtype)
        total, number = all_reduce(torch.cat([values.sum((0, 2, 3)), count])).split([channels, 1])
        mean = total / number
        # Of the centred values: a mean of squares less the square of a mean would lose the digits that count.
        centred = values - mean[:, None, None]
        variance = all_reduce(centred.square().sum((0, 2, 3))) / number
        self._remember(mean.detach(), (variance * number / (number - 1)).detach())
        scale = self.weight / (variance + self.eps).sqrt()
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)

    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            raise ValueError("batch norm without running statistics cannot be served")
        new = self.momentum or 0.0
        self.running_mean.lerp_(mean, new)
        self.running_var.lerp_(variance, new)
        self.num_batches_tracked.add_(1)


def _sync_on_cpu(network: nn.Module) -> nn.Module:
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.__class__ = _CpuSyncBatchNorm  # the same parameters and buffers, another forward
    return network
