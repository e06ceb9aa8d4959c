"""Data-parallel training: one process per device, started by `torchrun`, each with a share of every batch."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, distributed, nn

from audiocnn.device import DeviceError


@dataclass(frozen=True)
class ProcessGroup:
    """The processes that train together.

    Attributes:
        rank: of this process, from 0.
        size: number of processes.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process logs and writes files."""
        return self.rank == 0

    def shard(self, batch: Tensor) -> Tensor:
        """Return this process's clips of a batch: every size-th, so that shards differ by at most one clip."""
        return batch[self.rank :: self.size]

    def broadcast(self, value: Any) -> Any:
        """Return the main process's value in every process."""
        if self.size == 1:
            return value
        box = [value]
        distributed.broadcast_object_list(box, src=0)
        return box[0]

    def sum(self, values: Tensor) -> Tensor:
        """Sum over the processes, in place."""
        if self.size > 1:
            distributed.all_reduce(values)
        return values

    def wrap(self, network: nn.Module) -> nn.Module:
        """Return the network with gradients and batch statistics synchronized; a single process gets it unchanged."""
        if self.size == 1:
            return network
        on_gpu = next(network.parameters()).device.type == "cuda"
        convert = nn.SyncBatchNorm.convert_sync_batchnorm if on_gpu else convert_cpu_sync_batchnorm
        # Buffers need no broadcast: the synchronized statistics are equal in all processes.
        return nn.parallel.DistributedDataParallel(convert(network), broadcast_buffers=False)


SINGLE_PROCESS = ProcessGroup()


@contextmanager
def process_group(device: torch.device) -> Iterator[ProcessGroup]:
    """Join the process group that torchrun describes in the environment; without torchrun, yield SINGLE_PROCESS.

    Args:
        device: of this process. With "cuda", each process uses the GPU of its local rank.
    Raises:
        DeviceError: several processes of this machine were given the same GPU.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield SINGLE_PROCESS
        return
    on_gpu = device.type == "cuda"
    local_size = int(os.environ.get("LOCAL_WORLD_SIZE", size))
    if device.index is not None and on_gpu and local_size > 1:
        raise DeviceError(
            f"train.device: {device} is a single GPU and {local_size} processes train on this machine; use auto or cuda"
        )
    if on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) if device.index is None else device.index)
    distributed.init_process_group("nccl" if on_gpu else "gloo")
    try:
        yield ProcessGroup(distributed.get_rank(), size)
    finally:
        distributed.destroy_process_group()


class CpuSyncBatchNorm(nn.BatchNorm2d):
    """Batch norm over the batches of all processes, for CPU tensors; nn.SyncBatchNorm accepts CUDA tensors only."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalize a tensor of shape (batch, channels, height, width)."""
        if not self.training:
            return super().forward(x)
        from torch.distributed.nn.functional import all_reduce

        values = x.to(torch.promote_types(x.dtype, torch.float32))  # bfloat16 is too coarse for sums
        channels = x.shape[1]
        count = torch.full((1,), x.numel() / channels, dtype=values.dtype)
        total, number = all_reduce(torch.cat([values.sum((0, 2, 3)), count])).split([channels, 1])
        mean = total / number
        # Sum the squares of centered values: E[x^2] - E[x]^2 cancels catastrophically.
        centered = values - mean[:, None, None]
        variance: Tensor = all_reduce(centered.square().sum((0, 2, 3))) / number
        self._update_running_statistics(mean.detach(), (variance * number / (number - 1)).detach())
        scale = self.weight / (variance + self.eps).sqrt()
        normalized: Tensor = centered * scale[:, None, None] + self.bias[:, None, None]
        return normalized.to(x.dtype)

    def _update_running_statistics(self, mean: Tensor, variance: Tensor) -> None:
        momentum = self.momentum or 0.0
        cast(Tensor, self.running_mean).lerp_(mean, momentum)
        cast(Tensor, self.running_var).lerp_(variance, momentum)
        cast(Tensor, self.num_batches_tracked).add_(1)


def convert_cpu_sync_batchnorm(module: nn.Module) -> nn.Module:
    """Replace every BatchNorm2d by a CpuSyncBatchNorm with the same parameters and buffers.

    Like nn.SyncBatchNorm.convert_sync_batchnorm, this changes the children of `module` in place.
    """
    converted = module
    if isinstance(module, nn.BatchNorm2d):
        converted = norm = CpuSyncBatchNorm(module.num_features, module.eps, module.momentum)
        norm.weight, norm.bias = module.weight, module.bias
        norm.running_mean, norm.running_var = module.running_mean, module.running_var
        norm.num_batches_tracked = module.num_batches_tracked
        norm.train(module.training)
    for name, child in module.named_children():
        converted.add_module(name, convert_cpu_sync_batchnorm(child))
    return converted
