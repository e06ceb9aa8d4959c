"""Cut a recording of any length into the windows that the network classifies.

Neither torch nor a model is needed: the command line, TorchServe's handler and the gateway share these functions.
"""

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Self

import numpy as np
import numpy.typing as npt
import soundfile

from audiocnn.audio import MIN_SECONDS, SILENCE_THRESHOLD, with_length
from audiocnn.config import SpectrogramSettings
from audiocnn.errors import TooShort
from audiocnn.resampling import FloatArray, resample, resample_blocks, to_mono
from audiocnn.streams import SoundStream

RINGING_SECONDS = 0.02  # by which the resampling filter spreads a sound into a silent window beside it
CHUNK_SECONDS = 60.0  # of a recording that are classified together; TorchServe refuses a longer one
SENT_WINDOWS = 4  # of a chunk that is sent to a server, which answers other requests in between


@dataclass(frozen=True)
class Grid:
    """Where windows begin: every half window; the last one ends with the recording.

    A recording that is at most MIN_SECONDS, the shortest clip, longer than a window has one window; with windows of
    less than 0.2 s, one that is less than half a window longer.

    Attributes:
        rate: sample rate of the model in Hz.
        seconds: length of a window in s.
    """

    rate: int
    seconds: float

    @classmethod
    def of(cls, settings: SpectrogramSettings) -> Self:
        """Return the grid of a model with these settings."""
        return cls(settings.rate, settings.seconds)

    @property
    def samples(self) -> int:
        """Length of a window in samples."""
        return round(self.rate * self.seconds)

    @property
    def hop(self) -> int:
        """Samples between the beginnings of two windows."""
        return max(1, self.samples // 2)

    @property
    def tail(self) -> int:
        """Samples at the end of a recording that get no window of their own; fewer than a hop."""
        return min(int(MIN_SECONDS * self.rate), self.hop - 1)

    def windows_in(self, seconds: float) -> int:
        """Return how many windows there are in `seconds` of a recording, at least 1."""
        return 1 + max(0, int(seconds * self.rate) - self.samples) // self.hop

    def seconds_of(self, windows: int) -> float:
        """Return how long a part of a recording with this number of windows is, in s."""
        return self.seconds * (1 + (windows - 1) / 2)

    def starts(self, length: int) -> list[int]:
        """Return the first samples of the windows of a waveform of `length` samples."""
        last = length - self.samples
        if last <= self.tail:
            return [0]
        starts = list(range(0, last + 1, self.hop))
        return starts if last - starts[-1] <= self.tail else [*starts, last]


@dataclass(frozen=True)
class Chunk:
    """A part of a recording, mono and at the model's sample rate.

    The windows of all chunks of a recording are those of the recording.

    Attributes:
        start: in s, from the beginning of the recording.
        waveform: float32 of shape (samples,).
    """

    start: float
    waveform: FloatArray


@dataclass(frozen=True)
class Windows:
    """The windows of a chunk.

    Attributes:
        starts: in s, from the beginning of the recording.
        waveforms: float32 of shape (windows, samples); zero-padded at the end where the recording is shorter.
        silent: of shape (windows,): what reaches SILENCE_THRESHOLD in the window is not longer than RINGING_SECONDS; in
            the only window of a recording, nothing reaches it.
    """

    starts: tuple[float, ...]
    waveforms: FloatArray
    silent: npt.NDArray[np.bool_]


def chunks(stream: SoundStream, grid: Grid, seconds: float = CHUNK_SECONDS) -> Iterator[Chunk]:
    """Yield a recording in chunks of up to `seconds`, with the memory of about one chunk.

    Raises:
        AudioError: as `SoundStream.blocks`, after the chunks before the error; TooShort if the recording is shorter
            than MIN_SECONDS.
    """
    blocks = (to_mono(block) for block in stream.blocks())
    one_window = (grid.seconds + min(MIN_SECONDS, grid.seconds)) * stream.rate
    head = []
    for block in blocks:
        head.append(block)
        if stream.frames > one_window:
            break
    if stream.seconds < min(MIN_SECONDS, grid.seconds):
        raise TooShort(f"the clip lasts {stream.seconds:.3f} s; the minimum is {MIN_SECONDS:g} s")
    if stream.frames <= one_window:
        # As training and `to_waveform` do it: bit for bit the waveform that the step spectrograms makes of the clip.
        yield Chunk(0.0, resample(np.concatenate(head), stream.rate, grid.rate))
    else:
        yield from _split(resample_blocks(chain(head, blocks), stream.rate, grid.rate), grid, seconds)


def cut(chunk: Chunk, grid: Grid) -> Windows:
    """Return the windows of a chunk."""
    starts = grid.starts(len(chunk.waveform))
    waveforms = np.stack([with_length(chunk.waveform[start:], grid.samples) for start in starts])
    ringing = 0 if chunk.start == 0 and len(starts) == 1 else int(RINGING_SECONDS * grid.rate)
    silent = np.array([_sounding_samples(waveform) <= ringing for waveform in waveforms])
    return Windows(tuple(chunk.start + start / grid.rate for start in starts), waveforms, silent)


def to_wav(chunk: Chunk, grid: Grid) -> bytes:
    """Return a chunk as a WAV file, without loss."""
    content = io.BytesIO()
    soundfile.write(content, chunk.waveform, grid.rate, format="WAV", subtype="FLOAT")
    return content.getvalue()


def _sounding_samples(waveform: FloatArray) -> int:
    """Return the number of samples from the first one that reaches SILENCE_THRESHOLD to the last one."""
    loud = np.abs(waveform) >= SILENCE_THRESHOLD
    return len(loud) - int(loud.argmax()) - int(loud[::-1].argmax()) if loud.any() else 0


def _split(blocks: Iterable[FloatArray], grid: Grid, seconds: float) -> Iterator[Chunk]:
    """Cut a waveform of several windows, mono and at the model's sample rate, into chunks."""
    count = grid.windows_in(seconds)
    length = grid.samples + (count - 1) * grid.hop
    start = 0  # of the next chunk, in samples of the recording
    buffer = np.empty(0, np.float32)  # begins with the last window of the previous chunk
    first = 0  # of the next chunk, in the buffer
    for block in blocks:
        buffer = np.concatenate([buffer, block])
        while len(buffer) - first >= length:
            yield Chunk(start / grid.rate, buffer[first : first + length])
            buffer = buffer[first + (count - 1) * grid.hop :]
            start, first = start + count * grid.hop, grid.hop
    if len(buffer) - first >= grid.samples or start == 0:
        yield Chunk(start / grid.rate, buffer[first:])
    elif len(buffer) - grid.samples > grid.tail:  # the last window ends with the recording
        begin = len(buffer) - grid.samples
        yield Chunk((start - first + begin) / grid.rate, buffer[begin:])
