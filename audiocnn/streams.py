"""Decode audio files block by block, in bounded memory."""

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
import numpy.typing as npt
import soundfile

from audiocnn import formats
from audiocnn.deferred_signals import defer_signals
from audiocnn.errors import Empty, NotFinite, TooLong, Truncated, Undecodable
from audiocnn.ffmpeg import FfmpegFile, open_with_ffmpeg
from audiocnn.resampling import FloatArray

MAX_SAMPLES_PER_SECOND = 2 * 48_000  # stereo at 48 kHz; a maximum duration bounds memory by it
MAX_ABS_SAMPLE = 2.0**31  # floats scaled like 32-bit integers; the power spectrum of much larger ones overflows
SUPPORTED_FORMATS = ("WAV", "WAVEX", "RF64", "W64", "AIFF", "CAF", "AU", "FLAC", "OGG", "MP3")  # truncation is detected
BLOCK_SAMPLES = 2**20  # samples decoded at a time
UNKNOWN_SIZE = 2**42  # bytes: the number of frames exceeds UNKNOWN_LENGTH, and file systems can seek there
TAIL_FRAMES = 2**10  # frames read after those that the header declares: a file may contain more


class SoundStream:
    """An audio file that is being decoded. It is a context manager, which closes the file.

    Attributes:
        rate: sample rate in Hz.
        channels: number of channels.
        frames: number of frames decoded until now; of the whole file at the end of `blocks`.
    """

    def __init__(self, content: BinaryIO, max_seconds: float = math.inf, ffmpeg: bool = False) -> None:
        self._content = content
        self._file = _open(content, ffmpeg)
        self._max_seconds = max_seconds
        self.rate: int = self._file.samplerate
        self.channels: int = self._file.channels
        self.frames = 0

    @property
    def seconds(self) -> float:
        """Duration of the frames decoded until now, in s."""
        return self.frames / self.rate

    @property
    def declared_seconds(self) -> float:
        """Duration according to the header, in s; 0 if it has none."""
        return self._file.frames / self.rate if self._file.frames < formats.UNKNOWN_LENGTH else 0.0

    def describe(self) -> dict[str, float]:
        """Return the field `clip` of an answer: duration of what was decoded, rate and number of channels."""
        return {"seconds": round(self.seconds, 3), "rate": self.rate, "channels": self.channels}

    def blocks(self) -> Iterator[FloatArray]:
        """Yield all samples once, as float32 of shape (frames, channels). Those of integer formats are within [-1, 1].

        Raises:
            AudioError: the file is Empty, Undecodable, Truncated, NotFinite or TooLong; blocks before the error have
                been yielded.
        """
        # 16-bit PCM is read as integers, which is several times faster.
        dtype = "int16" if self._file.subtype == "PCM_16" else "float32"
        max_frames = self._max_seconds * min(self.rate, MAX_SAMPLES_PER_SECOND / self.channels)
        # In blocks, because a header may announce more frames than fit into memory.
        block_frames = max(1, BLOCK_SAMPLES // self.channels)
        while len(block := self._read(min(block_frames, max(self._file.frames - self.frames, TAIL_FRAMES)), dtype)):
            self.frames += len(block)
            if self.frames > max_frames:
                raise TooLong(f"the clip is too long: the maximum is {self._max_seconds:g} s, at up to 48 kHz stereo")
            yield _to_float(block)
        declared = self._file.frames
        if self.frames < declared < formats.UNKNOWN_LENGTH:
            raise Truncated(f"the header announces {declared} samples, the file contains {self.frames}")
        if self.frames == 0:
            raise Empty("the file has a header and no samples")

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        self._content.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _read(self, frames: int, dtype: str) -> npt.NDArray[Any]:
        """Read up to `frames` frames; raise Truncated if the stream ends within a compressed frame of FLAC or MP3."""
        try:
            with _libsndfile_errors(self._content):
                block: npt.NDArray[Any] = self._file.read(frames, dtype=dtype, always_2d=True)
        except Undecodable as error:
            if self._file.format == "MP3":
                raise Truncated("the MP3 stream ends within a frame") from error
            if not 0 < self._file.frames < formats.UNKNOWN_LENGTH:
                raise
            raise Truncated(f"the header announces {self._file.frames} samples, the file ends earlier") from error
        return block


def open_stream(source: Path | bytes | BinaryIO, max_seconds: float = math.inf, ffmpeg: bool = False) -> SoundStream:
    """Open an audio file of any sample rate, channel count and bit depth, to decode it with libsndfile.

    Args:
        source: path, content, or an open file that can seek, which the stream closes.
        max_seconds: maximum duration in s; `SoundStream.blocks` stops there. It limits the number of samples too, to
            those of stereo at 48 kHz.
        ffmpeg: whether the program ffmpeg may decode what libsndfile does not; see `audiocnn.ffmpeg`.
    Raises:
        AudioError: the file is Empty, Undecodable or Truncated.
        OSError: the file cannot be read.
    """
    if isinstance(source, Path):
        file: BinaryIO = source.open("rb")
    else:
        file = io.BytesIO(source) if isinstance(source, bytes) else source
    if not file.seekable():  # a pipe
        file = io.BytesIO(file.read())
    try:
        return SoundStream(file, max_seconds, ffmpeg)
    except BaseException:
        file.close()
        raise


class _VirtualFile:
    """A file as libsndfile's virtual I/O reads it.

    Args:
        size: number of bytes to declare instead of the real one.
        patch: offset and content of bytes that replace those of the file.
    """

    def __init__(self, content: BinaryIO, size: int | None = None, patch: tuple[int, bytes] | None = None) -> None:
        self._content = content
        self._size = content.seek(0, io.SEEK_END) if size is None else size
        content.seek(0)
        self.read, self.tell = content.read, content.tell
        self._patch = patch
        if patch is None:
            self.readinto = content.readinto  # type: ignore[attr-defined,method-assign]  # a call less for every read

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Ignore seeks before the start: an exception in libsndfile's callback would be printed, not raised."""
        if (offset, whence) == (0, io.SEEK_END):
            offset, whence = self._size, io.SEEK_SET
        try:
            return self._content.seek(offset, whence)
        except (ValueError, OSError):
            return self._content.tell()

    def readinto(self, buffer: Any) -> int:
        """Read as many bytes as `buffer` has, or up to the end of the file."""
        start = self._content.tell()
        count: int = self._content.readinto(buffer)  # type: ignore[attr-defined]  # BinaryIO does not declare it
        if self._patch is not None:
            offset, replaced = self._patch
            for index, byte in enumerate(replaced, offset - start):
                if 0 <= index < count:
                    buffer[index : index + 1] = bytes([byte])
        return count


@contextmanager
def _libsndfile_errors(content: BinaryIO) -> Iterator[None]:
    """Turn an error of libsndfile into an AudioError, and deliver signals after its callbacks."""
    try:
        with defer_signals():
            yield
    except (soundfile.LibsndfileError, RuntimeError) as error:
        if truncation := formats.find_truncation_of_unreadable(content):
            raise Truncated(truncation) from error
        reason = str(getattr(error, "error_string", error)).strip().rstrip(".")  # without the object's address
        raise Undecodable(f"the file cannot be decoded as audio ({reason}); use {formats.ACCEPTED}") from error


def _open(content: BinaryIO, ffmpeg: bool) -> soundfile.SoundFile | FfmpegFile:
    """Open a file of which everything is decoded; raise an AudioError otherwise."""
    if content.seek(0, io.SEEK_END) == 0:
        raise Empty("the file is empty")
    patch = formats.missing_audio_size(content)
    with _libsndfile_errors(content):
        try:
            file = soundfile.SoundFile(_VirtualFile(content, patch=patch))
        except soundfile.LibsndfileError:
            if decoder := open_with_ffmpeg(content, ffmpeg):
                return decoder
            raise
        container, position = file.format, content.tell()
        if container not in SUPPORTED_FORMATS:
            raise Undecodable(f"{file.format_info} is not supported; use {formats.ACCEPTED}")
        if container == "WAV" and (decoder := open_with_ffmpeg(content, ffmpeg)):
            return decoder
        if file.subtype == "MPEG_LAYER_III" and container != "MP3":
            raise Undecodable(f"MP3 audio in a {container} file is not supported; use a plain MP3 file")
        if (streams := formats.count_streams(content, container)) > 1:
            raise Undecodable(
                f"the file contains {streams} {container} streams; store each in a file, or export them as one"
            )
        if patch is None and (truncation := formats.find_truncation(content, container)):
            raise Truncated(truncation)
        # libsndfile would divide the size of an MP3 file by that of the first frame, and stop at this number of frames.
        if container == "MP3" and not formats.has_frame_count(content):
            file = soundfile.SoundFile(_VirtualFile(content, UNKNOWN_SIZE))
        else:
            content.seek(position)  # the checks have moved it
        file.seekable = lambda: False  # soundfile seeks after every read, which FLAC of unknown length does not allow
        return file


def _to_float(block: npt.NDArray[Any]) -> FloatArray:
    samples: FloatArray = block.astype(np.float32, copy=False)
    if block.dtype == np.int16:
        samples *= np.float32(2**-15)  # in place: allocating memory takes longer than the product
    # Without a copy: with a NaN, both extremes are NaN, and comparisons with NaN are false.
    elif not (samples.min() >= -MAX_ABS_SAMPLE and samples.max() <= MAX_ABS_SAMPLE):
        raise NotFinite("the file contains out-of-range samples: NaN, infinity or magnitudes above 2**31")
    return samples
