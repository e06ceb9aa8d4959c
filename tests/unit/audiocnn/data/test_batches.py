"""Resident and streamed batches return the same clips."""

import dataclasses
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from audiocnn.data.batches import PREFETCH, ResidentBatches, StreamedBatches, band_statistics, batches
from audiocnn.data.spectrogram_set import SpectrogramSet

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(spectrogram_folder: Path) -> SpectrogramSet:
    return SpectrogramSet.open(spectrogram_folder)


def test_every_clip_is_returned_once_in_table_order(data: SpectrogramSet) -> None:
    rows = np.arange(0, 50, 2)
    spectrograms, labels = zip(*batches(data, rows, 8, CPU).in_order(), strict=True)
    assert [len(part) for part in labels] == [8, 8, 8, 1]
    assert torch.equal(torch.cat(spectrograms), torch.from_numpy(data.spectrograms[rows].astype(np.float32)))
    assert torch.cat(labels).tolist() == data.labels[rows].tolist()


@given(st.integers(1, 50), st.integers(1, 60), st.integers(0, 2**31))
def test_streamed_batches_equal_resident_ones(data: SpectrogramSet, clips: int, size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.permutation(50)[:clips]
    order = torch.from_numpy(rng.permutation(clips))[: rng.integers(0, clips + 1)]
    resident, streamed = (kind(data, rows, size, CPU).in_order(order) for kind in (ResidentBatches, StreamedBatches))
    for (x, y), (also_x, also_y) in zip(resident, streamed, strict=True):
        assert torch.equal(x, also_x) and torch.equal(y, also_y) and x.dtype == also_x.dtype == torch.float32


def test_clips_beyond_resident_mb_are_streamed(data: SpectrogramSet) -> None:
    size = 40 * data.spectrograms[0].nbytes / 1e6
    assert isinstance(batches(data, np.arange(40), 8, CPU, size), ResidentBatches)
    assert isinstance(batches(data, np.arange(41), 8, CPU, size), StreamedBatches)


def test_unfinished_iteration_leaves_no_thread(data: SpectrogramSet) -> None:
    reading = StreamedBatches(data, np.arange(50), 2, CPU).in_order()
    next(reading)
    reading.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("reader")]


def test_prefetch_is_limited(data: SpectrogramSet) -> None:
    read = []

    class Recording(StreamedBatches):
        def _read(self, order: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            read.append(order)
            return super()._read(order)

    reading = Recording(data, np.arange(50), 5, CPU).in_order()
    next(reading)
    assert len(read) <= PREFETCH + 1
    reading.close()


def test_read_errors_are_raised_in_the_caller(data: SpectrogramSet) -> None:
    broken = dataclasses.replace(data, spectrograms=data.spectrograms[:10])
    with pytest.raises(IndexError):
        list(StreamedBatches(broken, np.arange(50), 8, CPU).in_order())


def test_band_statistics_equal_those_of_numpy(data: SpectrogramSet) -> None:
    rows = np.arange(7, 40)
    mean, deviation = band_statistics(batches(data, rows, 8, CPU), lambda spectrograms: spectrograms.clamp(min=-60))
    values = np.maximum(data.spectrograms[rows].astype(np.float64), -60)
    assert np.allclose(mean, values.mean((0, 2)), atol=1e-4)
    assert np.allclose(deviation, values.std((0, 2)), atol=1e-3)
