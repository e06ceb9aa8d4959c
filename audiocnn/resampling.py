"""Mix channels and change the sample rate, at once or block by block."""

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import soxr

FloatArray = npt.NDArray[np.float32]
BLOCK_SAMPLES = 2**20  # samples that a block has after resampling, at most about


def to_mono(samples: FloatArray) -> FloatArray:
    """Return the mean of the channels, of shape (frames,), of samples of shape (frames, channels)."""
    if samples.shape[1] == 1:
        return samples[:, 0]
    # With the channels side by side in memory, numpy's mean is several times faster.
    mean: FloatArray = np.ascontiguousarray(samples.T).mean(axis=0)
    return mean


def resample(mono: FloatArray, rate: int, new_rate: int) -> FloatArray:
    """Return a waveform of shape (samples,) at another sample rate in Hz (soxr, high quality)."""
    resampled: FloatArray = mono if rate == new_rate else soxr.resample(mono, rate, new_rate)
    return resampled


def resample_blocks(blocks: Iterable[FloatArray], rate: int, new_rate: int) -> Iterator[FloatArray]:
    """Yield the blocks of a waveform at another sample rate in Hz; together they are what `resample` returns."""
    if rate == new_rate:
        yield from blocks
        return
    resampler = soxr.ResampleStream(rate, new_rate, 1, dtype="float32")
    size = max(1, BLOCK_SAMPLES * rate // max(rate, new_rate))  # a low rate would become a block of many samples
    for block in blocks:
        for first in range(0, len(block), size):
            yield resampler.resample_chunk(block[first : first + size])
    yield resampler.resample_chunk(np.empty(0, np.float32), last=True)
