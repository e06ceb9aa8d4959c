"""Spectrograms as batches on a device: resident there, or streamed from the disk where they do not fit."""

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
AHEAD = 3  # batches that the reader may be ahead of the one in use
# Bands of real clips vary by more than 2 dB. One that hears no bin of the spectrum is silent in every clip: divided by
# its deviation of nearly 0, a mask or a noise there would reach the network as 100,000.
LEAST_DEVIATION_DB = 1.0


class Batches(Protocol):
    """Some clips of a set in batches: float32 spectrograms (batch, n_mels, frames) in dB, int64 labels (batch,)."""

    batch_size: int
    device: torch.device
    clips: int

    def in_order(self, order: Tensor | None = None) -> Iterator[Batch]:
        """One pass in the table's order, or through the clips whose numbers `order`, int64 on the CPU, gives."""
        ...


def batches(
    data: SpectrogramSet, rows: Rows, batch_size: int, device: torch.device, resident_mb: float = float("inf")
) -> Batches:
    """Batches of these rows of the set: resident on the device up to `resident_mb` megabytes, else streamed."""
    size = len(rows) * data.spectrograms[0].nbytes
    kind = ResidentBatches if size <= resident_mb * 1e6 else StreamedBatches
    return kind(data, rows, batch_size, device)


class ResidentBatches:
    """Clips that live on the device as float16: one read and one copy for the whole fold.

    2,000 clips of 128 x 216 are 110 MB.
    """

    def __init__(self, data: SpectrogramSet, rows: Rows, batch_size: int, device: torch.device) -> None:
        self._spectrograms = torch.from_numpy(data.spectrograms[rows]).to(device)
        self._labels = torch.from_numpy(data.labels[rows]).to(device)
        self.batch_size = batch_size
        self.device = device
        self.clips = len(rows)

    def in_order(self, order: Tensor | None = None) -> Iterator[Batch]:
        """See Batches."""
        order = torch.arange(self.clips) if order is None else order
        for rows in _parts(order.to(self.device), self.batch_size):
            yield self._spectrograms[rows].float(), self._labels[rows]


class StreamedBatches:
    """Clips that stay in the memory map; a thread reads the next batches while the device works on this one."""

    def __init__(self, data: SpectrogramSet, rows: Rows, batch_size: int, device: torch.device) -> None:
        self._data, self._rows = data, rows
        self.batch_size = batch_size
        self.device = device
        self.clips = len(rows)

    def in_order(self, order: Tensor | None = None) -> Iterator[Batch]:
        """See Batches."""
        order = torch.arange(self.clips) if order is None else order
        for spectrograms, labels in _ahead(self._read, _parts(order, self.batch_size)):
            # From pinned memory the copy runs beside the device's work.
            yield spectrograms.to(self.device, non_blocking=True).float(), labels.to(self.device, non_blocking=True)

    def _read(self, order: Tensor) -> Batch:
        rows = self._rows[order.numpy()]
        parts = torch.from_numpy(self._data.spectrograms[rows]), torch.from_numpy(self._data.labels[rows])
        return (parts[0].pin_memory(), parts[1].pin_memory()) if self.device.type == "cuda" else parts


def _parts(order: Tensor, size: int) -> Sequence[Tensor]:
    """Runs of `size`, the last one shorter; none of nothing."""
    return order.split(size) if len(order) else ()


def _ahead(read: Callable[[Tensor], Batch], items: Sequence[Tensor]) -> Iterator[Batch]:
    """`read` of each item, done in a thread up to AHEAD items ahead of who iterates."""
    with ThreadPoolExecutor(1, "reader") as pool:
        waiting: deque[Future[Batch]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(read, item))
                if len(waiting) > AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:  # who iterates may stop in the middle
            for one in waiting:
                one.cancel()


def band_statistics(of: Batches, clamp: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of every band over the clips and their frames, float32 (n_mels,), in dB.

    No deviation is below LEAST_DEVIATION_DB.

    Args:
        clamp: applied to each batch first.
    """
    sums, squares, count = torch.zeros(()), torch.zeros(()), 0
    for spectrograms, _ in of.in_order():
        values = clamp(spectrograms).double()
        sums, squares = sums + values.sum((0, 2)).cpu(), squares + values.square().sum((0, 2)).cpu()
        count += values.shape[0] * values.shape[2]
    mean = sums / count
    return mean.float(), (squares / count - mean.square()).clamp(min=LEAST_DEVIATION_DB**2).sqrt().float()
