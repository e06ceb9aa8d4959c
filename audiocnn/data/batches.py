"""Batches of spectrograms: kept on the device, or streamed from disk if they do not fit."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from audiocnn.data.spectrogram_set import SpectrogramSet

Rows = npt.NDArray[np.int64]
Batch = tuple[Tensor, Tensor]
PREFETCH = 3  # batches that are read ahead of the one in use
# Bands of real clips vary by more than 2 dB. A mel band without an FFT bin is constant in every clip: divided by its
# deviation of nearly 0, a mask or noise in it would reach the network as 100,000.
MIN_DEVIATION_DB = 1.0


class Batches(Protocol):
    """Clips in batches: float32 spectrograms (batch, n_mels, frames) in dB, and int64 labels (batch,)."""

    batch_size: int
    device: torch.device
    clips: int

    def in_order(self, order: Tensor | None = None) -> Iterator[Batch]:
        """Iterate over the clips once.

        Args:
            order: int64 on the CPU, the positions of the clips to return; by default all clips in table order.
        """
        ...


def batches(
    data: SpectrogramSet, rows: Rows, batch_size: int, device: torch.device, resident_mb: float = float("inf")
) -> Batches:
    """Return batches of some rows: kept on the device if they have at most `resident_mb` megabytes, else streamed."""
    size = len(rows) * data.spectrograms[0].nbytes
    kind = ResidentBatches if size <= resident_mb * 1e6 else StreamedBatches
    return kind(data, rows, batch_size, device)


class ResidentBatches:
    """Batches of clips that are kept on the device as float16; 2,000 clips of 128 x 216 take 110 MB."""

    def __init__(self, data: SpectrogramSet, rows: Rows, batch_size: int, device: torch.device) -> None:
        self._spectrograms = torch.from_numpy(data.spectrograms[rows]).to(device)
        self._labels = torch.from_numpy(data.labels[rows]).to(device)
        self.batch_size = batch_size
        self.device = device
        self.clips = len(rows)

    def in_order(self, order: Tensor | None = None) -> Iterator[Batch]:
        """Iterate over the clips once; see Batches."""
        order = torch.arange(self.clips) if order is None else order
        for rows in _split(order.to(self.device), self.batch_size):
            yield self.select(rows)

    def select(self, rows: Tensor) -> Batch:
        """Return some clips as a batch; `rows` are positions, int64 on the device."""
        return self._spectrograms[rows].float(), self._labels[rows]


class StreamedBatches:
    """Batches of clips in a memory map; a thread reads the next batches while the device computes."""

    def __init__(self, data: SpectrogramSet, rows: Rows, batch_size: int, device: torch.device) -> None:
        self._data, self._rows = data, rows
        self.batch_size = batch_size
        self.device = device
        self.clips = len(rows)

    def in_order(self, order: Tensor | None = None) -> Iterator[Batch]:
        """Iterate over the clips once; see Batches."""
        order = torch.arange(self.clips) if order is None else order
        for spectrograms, labels in _prefetch(self._read, _split(order, self.batch_size)):
            # Copies from pinned memory overlap with the device's computations.
            yield spectrograms.to(self.device, non_blocking=True).float(), labels.to(self.device, non_blocking=True)

    def _read(self, order: Tensor) -> Batch:
        rows = self._rows[order.numpy()]
        parts = torch.from_numpy(self._data.spectrograms[rows]), torch.from_numpy(self._data.labels[rows])
        return (parts[0].pin_memory(), parts[1].pin_memory()) if self.device.type == "cuda" else parts


def _split(order: Tensor, size: int) -> Sequence[Tensor]:
    """Split into parts of `size`; the last may be shorter. An empty tensor has no parts."""
    return order.split(size) if len(order) else ()


def _prefetch(read: Callable[[Tensor], Batch], items: Sequence[Tensor]) -> Iterator[Batch]:
    """Yield `read(item)` of each item, computed in a thread up to PREFETCH items ahead."""
    with ThreadPoolExecutor(1, "reader") as pool:
        pending: deque[Future[Batch]] = deque()
        try:
            for item in items:
                pending.append(pool.submit(read, item))
                if len(pending) > PREFETCH:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:  # the caller may stop early
            for future in pending:
                future.cancel()


def band_statistics(batches: Batches, clamp: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of every mel band over clips and frames, float32 (n_mels,), in dB.

    The standard deviation is at least MIN_DEVIATION_DB.

    Args:
        clamp: applied to each batch first.
    """
    sums, squares, count = torch.zeros(()), torch.zeros(()), 0
    for spectrograms, _ in batches.in_order():
        values = clamp(spectrograms).double()
        sums, squares = sums + values.sum((0, 2)).cpu(), squares + values.square().sum((0, 2)).cpu()
        count += values.shape[0] * values.shape[2]
    mean = sums / count
    return mean.float(), (squares / count - mean.square()).clamp(min=MIN_DEVIATION_DB**2).sqrt().float()
