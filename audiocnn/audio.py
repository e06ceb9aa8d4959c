"""Decode audio files, validate them and convert them to mono waveforms of the model's sample rate and length."""

import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from audiocnn.config import SpectrogramSettings
from audiocnn.errors import AudioCNNError
from audiocnn.truncation import UNKNOWN_LENGTH, find_truncation, is_truncated_ogg

FloatArray = npt.NDArray[np.float32]
SILENCE_THRESHOLD = 2.0**-15  # one step of 16-bit audio
CLIPPING_THRESHOLD = 1.0 - 2.0**-14  # full scale of 16-bit audio, within one step
MAX_ABS_SAMPLE = 2.0**31  # floats scaled like 32-bit integers; the power spectrum of much larger ones overflows
SUPPORTED_FORMATS = ("WAV", "WAVEX", "AIFF", "FLAC", "OGG", "MP3")  # those in which truncation is detected
MAX_SAMPLES_PER_SECOND = 2 * 48_000  # stereo at 48 kHz; `max_seconds` bounds memory by it
BLOCK_SAMPLES = 2**20  # samples decoded at a time
TAIL_FRAMES = 2**10  # frames requested after all that the header announces: a file may contain more


class AudioError(AudioCNNError):
    """Base class of errors in the content of an audio file. `reason` is the key of the ingest policy."""

    reason: ClassVar[str] = "audio"


class Undecodable(AudioError):
    """Not audio, or in an unsupported format."""

    reason = "undecodable"


class Empty(AudioError):
    """No bytes, or no samples."""

    reason = "empty"


class Truncated(AudioError):
    """The file ends before the audio that its header announces."""

    reason = "truncated"


class NotFinite(AudioError):
    """Floating-point samples that are NaN, infinite or out of range."""

    reason = "not_finite"


class Silent(AudioError):
    """The mean of the channels never reaches SILENCE_THRESHOLD."""

    reason = "silent"


class TooShort(AudioError):
    """Shorter than the minimum duration."""

    reason = "too_short"


class TooLong(AudioError):
    """Longer than the maximum duration."""

    reason = "too_long"


@dataclass(frozen=True)
class Sound:
    """Decoded audio.

    Attributes:
        samples: float32 of shape (frames, channels); within [-1, 1] for integer formats.
        rate: sample rate in Hz.
        format: libsndfile's name of the container, such as "WAV".
    """

    samples: FloatArray
    rate: int
    format: str

    @property
    def seconds(self) -> float:
        """Duration in s."""
        return len(self.samples) / self.rate

    @property
    def mono(self) -> FloatArray:
        """Mean of the channels, of shape (frames,)."""
        if self.samples.shape[1] == 1:
            return self.samples[:, 0]
        # Channel by channel: numpy's mean over an axis of length two is ten times slower.
        total = self.samples[:, 0] + self.samples[:, 1]
        for channel in self.samples.T[2:]:
            total += channel
        total /= np.float32(self.samples.shape[1])
        return total

    @property
    def peak(self) -> float:
        """Largest absolute sample; 1 is full scale."""
        return float(np.abs(self.samples).max())

    @property
    def clipped_share(self) -> float:
        """Share of the samples at full scale, 0 to 1."""
        return float((np.abs(self.samples) >= CLIPPING_THRESHOLD).mean())


def decode(source: Path | bytes, max_seconds: float | None = None) -> Sound:
    """Decode an audio file of any sample rate, channel count and bit depth with libsndfile.

    Args:
        source: path or content of the file.
        max_seconds: maximum duration in s; None for no limit. It limits the number of samples too, to those of stereo
            at 48 kHz. Decoding stops at the limit, because a megabyte of FLAC or Ogg can contain days of audio.
    Raises:
        Empty: no bytes or no samples.
        Undecodable: not audio, or not in one of SUPPORTED_FORMATS.
        Truncated: the file ends before the audio that its header announces.
        NotFinite: samples that are NaN, infinite or beyond MAX_ABS_SAMPLE.
        TooLong: above `max_seconds`.
        OSError: the file cannot be read.
    """
    content = source if isinstance(source, bytes) else source.read_bytes()
    if not content:
        raise Empty("the file is empty")
    try:
        with soundfile.SoundFile(_SeekSafeBytes(content)) as file:
            if file.format not in SUPPORTED_FORMATS:
                raise Undecodable(f"{file.format_info} is not supported; use WAV, AIFF, FLAC, Ogg or MP3")
            samples, announced = _read_samples(file, max_seconds), file.frames
            rate, container, is_float = file.samplerate, file.format, file.subtype != "PCM_16"
    except (soundfile.LibsndfileError, RuntimeError) as error:
        if is_truncated_ogg(content):
            raise Truncated("the Ogg stream ends without its last page") from error
        raise Undecodable(f"the file cannot be decoded as audio ({_reason(error)})") from error
    if truncation := find_truncation(content, container, len(samples), announced):
        raise Truncated(truncation)
    if len(samples) == 0:
        raise Empty("the file has a header and no samples")
    # One pass without a copy: with a NaN, both extremes are NaN, and comparisons with NaN are false.
    if is_float and not (samples.min() >= -MAX_ABS_SAMPLE and samples.max() <= MAX_ABS_SAMPLE):
        raise NotFinite("the file contains out-of-range samples: NaN, infinity or magnitudes above 2**31")
    return Sound(samples, rate, container)


def check(sound: Sound, min_seconds: float) -> None:
    """Check that a clip is long enough and not silent.

    Raises:
        TooShort: shorter than `min_seconds`.
        Silent: the mean of the channels never reaches SILENCE_THRESHOLD.
    """
    if sound.seconds < min_seconds:
        raise TooShort(f"the clip lasts {sound.seconds:.3f} s; the minimum is {min_seconds:g} s")
    if float(np.abs(sound.mono).max()) < SILENCE_THRESHOLD:
        reason = ": its channels cancel each other out" if sound.peak >= SILENCE_THRESHOLD else ""
        raise Silent(f"the clip is silent{reason}")


def to_waveform(sound: Sound, rate: int, seconds: float) -> FloatArray:
    """Convert to mono, resample (soxr, high quality), and cut or zero-pad at the end.

    Args:
        rate: sample rate of the result in Hz.
        seconds: duration of the result in s.
    Returns:
        float32 of shape (round(rate * seconds),).
    """
    length = round(rate * seconds)
    mono = sound.mono
    if sound.rate != rate:
        # Do not resample samples that are cut off, except half a second for the tail of the filter.
        mono = mono[: int((seconds + 0.5) * sound.rate)]
        mono = soxr.resample(mono, sound.rate, rate)
    waveform = np.zeros(length, np.float32)
    waveform[: min(length, len(mono))] = mono[:length]
    return waveform


def load(source: Path | bytes, settings: SpectrogramSettings) -> FloatArray:
    """Decode a file and convert it to the rate and duration of the front end.

    Returns:
        float32 of shape (settings.samples,).
    Raises:
        AudioError: see decode().
        OSError: the file cannot be read.
    """
    return to_waveform(decode(source), settings.rate, settings.seconds)


class _SeekSafeBytes(io.BytesIO):
    """A buffer that ignores seeks before its start.

    Broken headers make libsndfile do that. An exception in its callback would be printed, not raised.
    """

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        try:
            return super().seek(offset, whence)
        except ValueError:
            return self.tell()


def _read_samples(file: soundfile.SoundFile, max_seconds: float | None) -> FloatArray:
    """Read all samples as float32 of shape (frames, channels).

    Raises:
        TooLong: above `max_seconds`.
        Truncated: see _read_block().
    """
    # 16-bit PCM is read as integers, which is several times faster.
    dtype = "int16" if file.subtype == "PCM_16" else "float32"
    limit = math.inf
    if max_seconds is not None:
        limit = max_seconds * min(file.samplerate, MAX_SAMPLES_PER_SECOND / file.channels)
    blocks, frames = [np.empty((0, file.channels), dtype)], 0
    file.seekable = lambda: False  # soundfile seeks after every read, which FLAC streams of unknown length do not allow
    # In blocks, because a header may announce more frames than fit into memory.
    max_block = max(1, BLOCK_SAMPLES // file.channels)
    while len(block := _read_block(file, min(max_block, max(file.frames - frames, TAIL_FRAMES)), dtype)):
        frames += len(block)
        if frames > limit:
            raise TooLong(f"the clip is too long: the maximum is {max_seconds:g} s, at up to 48 kHz stereo")
        blocks.append(block)
    samples: FloatArray = (np.concatenate(blocks) if len(blocks) > 2 else blocks[-1]).astype(np.float32, copy=False)
    if dtype == "int16":
        samples *= np.float32(2**-15)  # in place: allocating memory takes longer than the product
    return samples


def _read_block(file: soundfile.SoundFile, frames: int, dtype: str) -> npt.NDArray[Any]:
    """Read up to `frames` frames; fewer at the end of the file.

    Raises:
        Truncated: the stream ends within a compressed frame, as truncated FLAC files do.
    """
    try:
        block: npt.NDArray[Any] = file.read(frames, dtype=dtype, always_2d=True)
    except soundfile.LibsndfileError as error:
        if not 0 < file.frames < UNKNOWN_LENGTH:
            raise
        raise Truncated(f"the header announces {file.frames} samples, the file ends earlier") from error
    return block


def _reason(error: Exception) -> str:
    """Return the message of libsndfile without the address of the Python object."""
    return str(getattr(error, "error_string", error)).strip().rstrip(".")
