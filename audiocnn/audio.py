"""Decode audio files, check them and convert them to the waveforms that the network is given; encode MP3."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from audiocnn import formats
from audiocnn.config import SpectrogramSettings
from audiocnn.errors import AudioCNNError

FloatArray = npt.NDArray[np.float32]
MIN_SECONDS = 0.1
MAX_SECONDS = 600.0
MAX_SAMPLES_PER_SECOND = 2 * 48_000  # stereo at 48 kHz; MAX_SECONDS bounds memory by it
SILENCE_THRESHOLD = 2.0**-15  # one step of 16-bit audio
CLIPPING_THRESHOLD = 1.0 - 2.0**-14  # full scale of 16-bit audio, within one step
MAX_ABS_SAMPLE = 2.0**31  # floats scaled like 32-bit integers; the power spectrum of much larger ones overflows
SUPPORTED_FORMATS = ("WAV", "WAVEX", "AIFF", "FLAC", "OGG", "MP3")  # those in which truncation is detected
BLOCK_SAMPLES = 2**20  # samples decoded at a time
TAIL_FRAMES = 2**10  # frames requested after all that the header announces: a file may contain more
MP3_RATE = 44_100  # of files that `encode_mp3` writes, in Hz
MP3_KBITS = 64


class AudioError(AudioCNNError):
    """Base class of errors in the content of an audio file. `reason` is the key of the ingest policy."""

    reason: ClassVar[str]

    def __init_subclass__(cls, reason: str) -> None:
        cls.reason = reason


class Undecodable(AudioError, reason="undecodable"):
    """Not audio, not in one of SUPPORTED_FORMATS, or several streams of audio."""


class Empty(AudioError, reason="empty"):
    """No bytes, or no samples."""


class Truncated(AudioError, reason="truncated"):
    """The file ends before the audio that its header announces."""


class NotFinite(AudioError, reason="not_finite"):
    """Floating-point samples that are NaN, infinite or beyond MAX_ABS_SAMPLE."""


class Silent(AudioError, reason="silent"):
    """What the network is given never reaches SILENCE_THRESHOLD."""


class TooShort(AudioError, reason="too_short"):
    """Shorter than MIN_SECONDS."""


class TooLong(AudioError, reason="too_long"):
    """Longer than the maximum duration."""


@dataclass(frozen=True)
class Sound:
    """Decoded audio: float32 samples of shape (frames, channels), and the sample rate in Hz.

    Samples of integer formats are within [-1, 1].
    """

    samples: FloatArray
    rate: int

    @property
    def seconds(self) -> float:
        """Duration in s."""
        return len(self.samples) / self.rate

    @property
    def mono(self) -> FloatArray:
        """Mean of the channels, of shape (frames,)."""
        if self.samples.shape[1] == 1:
            return self.samples[:, 0]
        # With the channels side by side in memory, numpy's mean is several times faster.
        mean: FloatArray = np.ascontiguousarray(self.samples.T).mean(axis=0)
        return mean

    @property
    def peak(self) -> float:
        """Largest absolute sample; 1 is full scale."""
        return float(np.abs(self.samples).max())

    @property
    def clipped_share(self) -> float:
        """Share of the samples at full scale, 0 to 1."""
        return float((np.abs(self.samples) >= CLIPPING_THRESHOLD).mean())


def decode(source: Path | bytes, max_seconds: float = MAX_SECONDS) -> Sound:
    """Decode an audio file, given by path or content, of any sample rate, channel count and bit depth with libsndfile.

    Args:
        max_seconds: maximum duration in s. It limits the number of samples too, to those of stereo at 48 kHz. Decoding
            stops at the limit, because a megabyte of FLAC or Ogg can contain days of audio.
    Raises:
        AudioError: the file is Empty, Undecodable, Truncated, NotFinite or TooLong.
        OSError: the file cannot be read.
    """
    content = formats.with_audio_size(source if isinstance(source, bytes) else source.read_bytes())
    if not content:
        raise Empty("the file is empty")
    try:
        with _open(content) as file:
            samples, announced = _read_samples(file, max_seconds), file.frames
            rate, container, is_float = file.samplerate, file.format, file.subtype != "PCM_16"
    except (soundfile.LibsndfileError, RuntimeError) as error:
        if formats.is_truncated_ogg(content):
            raise Truncated("the Ogg stream ends without its last page") from error
        reason = str(getattr(error, "error_string", error)).strip().rstrip(".")  # without the object's address
        raise Undecodable(f"the file cannot be decoded as audio ({reason})") from error
    if truncation := formats.find_truncation(content, container, len(samples), announced):
        raise Truncated(truncation)
    if len(samples) == 0:
        raise Empty("the file has a header and no samples")
    # One pass without a copy: with a NaN, both extremes are NaN, and comparisons with NaN are false.
    if is_float and not (samples.min() >= -MAX_ABS_SAMPLE and samples.max() <= MAX_ABS_SAMPLE):
        raise NotFinite("the file contains out-of-range samples: NaN, infinity or magnitudes above 2**31")
    return Sound(samples, rate)


def to_waveform(sound: Sound, settings: SpectrogramSettings) -> FloatArray:
    """Return what the network is given: mono, resampled (soxr, high quality), cut or zero-padded at the end.

    The result is float32 of shape (settings.samples,).
    """
    mono = sound.mono
    if sound.rate != settings.rate:
        # Do not resample samples that are cut off, except half a second for the tail of the filter.
        mono = mono[: int((settings.seconds + 0.5) * sound.rate)]
        mono = soxr.resample(mono, sound.rate, settings.rate)
    waveform = np.zeros(settings.samples, np.float32)
    waveform[: min(settings.samples, len(mono))] = mono[: settings.samples]
    return waveform


def checked_waveform(sound: Sound, settings: SpectrogramSettings) -> FloatArray:
    """Return what the network is given. Ingest and serving refuse the same clips by this function.

    Raises:
        TooShort: shorter than MIN_SECONDS.
        Silent: no sample of the waveform reaches SILENCE_THRESHOLD, whatever the rest of the clip contains.
    """
    if sound.seconds < min(MIN_SECONDS, settings.seconds):
        raise TooShort(f"the clip lasts {sound.seconds:.3f} s; the minimum is {MIN_SECONDS:g} s")
    waveform = to_waveform(sound, settings)
    if float(np.abs(waveform).max()) >= SILENCE_THRESHOLD:
        return waveform
    if sound.seconds > settings.seconds:
        raise Silent(f"the first {settings.seconds:g} s of the clip, which the network is given, are silent")
    reason = ": its channels cancel each other out" if sound.peak >= SILENCE_THRESHOLD else ""
    raise Silent(f"the clip is silent{reason}")


def load(source: Path | bytes, settings: SpectrogramSettings) -> FloatArray:
    """Decode a file and return what the network is given, float32 of shape (settings.samples,). Raises as decode()."""
    return to_waveform(decode(source), settings)


def encode_mp3(waveform: FloatArray, rate: int) -> bytes:
    """Return a mono waveform of shape (samples,) as an MP3 file with MP3_KBITS kbit/s; samples beyond 1 are clipped."""
    samples = soxr.resample(waveform, rate, MP3_RATE) if rate != MP3_RATE else waveform
    content = io.BytesIO()
    # libsndfile maps the compression level from 0 to 1 to 320 to 32 kbit/s at this sample rate.
    level = (320 - MP3_KBITS) / (320 - 32)
    soundfile.write(
        content, np.clip(samples, -1, 1), MP3_RATE, format="MP3", bitrate_mode="CONSTANT", compression_level=level
    )
    return content.getvalue()


class _Buffer(io.BytesIO):
    """The content of a file for libsndfile; `size` is the number of bytes to declare instead of the real one."""

    def __init__(self, content: bytes, size: int | None = None) -> None:
        super().__init__(content)
        self.size = len(content) if size is None else size

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Ignore seeks before the start: an exception in libsndfile's callback would be printed, not raised."""
        if (offset, whence) == (0, io.SEEK_END):
            return super().seek(self.size)
        try:
            return super().seek(offset, whence)
        except ValueError:
            return self.tell()


def _open(content: bytes) -> soundfile.SoundFile:
    """Open a file of which libsndfile decodes everything; raise Undecodable otherwise."""
    file = soundfile.SoundFile(_Buffer(content))
    if file.format not in SUPPORTED_FORMATS:
        raise Undecodable(f"{file.format_info} is not supported; use WAV, AIFF, FLAC, Ogg or MP3")
    if file.subtype == "MPEG_LAYER_III" and file.format != "MP3":
        raise Undecodable(f"MP3 audio in a {file.format} file is not supported; use a plain MP3 file")
    if (streams := formats.count_streams(content, file.format)) > 1:
        raise Undecodable(
            f"the file contains {streams} {file.format} streams; store each in a file, or export them as one"
        )
    if file.format == "MP3" and not formats.has_frame_count(content):
        # libsndfile would divide the size of the file by that of the first frame, and stop at this number of frames.
        file = soundfile.SoundFile(_Buffer(content, size=2**56))
    return file


def _read_samples(file: soundfile.SoundFile, max_seconds: float) -> FloatArray:
    """Read all samples as float32 of shape (frames, channels)."""
    # 16-bit PCM is read as integers, which is several times faster.
    dtype = "int16" if file.subtype == "PCM_16" else "float32"
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
    """Read up to `frames` frames; raise Truncated if the stream ends within a compressed frame of FLAC or MP3."""
    try:
        block: npt.NDArray[Any] = file.read(frames, dtype=dtype, always_2d=True)
    except soundfile.LibsndfileError as error:
        if file.format == "MP3":
            raise Truncated("the MP3 stream ends within a frame") from error
        if not 0 < file.frames < formats.UNKNOWN_LENGTH:
            raise
        raise Truncated(f"the header announces {file.frames} samples, the file ends earlier") from error
    return block
