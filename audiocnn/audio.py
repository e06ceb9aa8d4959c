"""Decode audio files, check them and convert them to the waveforms that the network is given; encode MP3."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from audiocnn.config import SpectrogramSettings
from audiocnn.errors import Silent, TooShort
from audiocnn.resampling import FloatArray, resample, to_mono
from audiocnn.streams import open_stream

MIN_SECONDS = 0.1
MAX_SECONDS = 600.0
SILENCE_THRESHOLD = 2.0**-15  # one step of 16-bit audio
CLIPPING_THRESHOLD = 1.0 - 2.0**-14  # full scale of 16-bit audio, within one step
MP3_RATE = 44_100  # of files that `encode_mp3` writes, in Hz
MP3_KBITS = 64


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
        return to_mono(self.samples)

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
    with open_stream(source, max_seconds) as stream:
        blocks = list(stream.blocks())
        return Sound(np.concatenate(blocks) if len(blocks) > 1 else blocks[0], stream.rate)


def to_waveform(sound: Sound, settings: SpectrogramSettings) -> FloatArray:
    """Return what the network is given: mono, resampled (soxr, high quality), cut or zero-padded at the end.

    The result is float32 of shape (settings.samples,).
    """
    mono = sound.mono
    if sound.rate != settings.rate:
        # Do not resample samples that are cut off, except half a second for the tail of the filter.
        mono = resample(mono[: int((settings.seconds + 0.5) * sound.rate)], sound.rate, settings.rate)
    return with_length(mono, settings.samples)


def with_length(waveform: npt.NDArray[np.floating], samples: int) -> FloatArray:
    """Return a waveform of shape (samples,): cut, or zero-padded at the end."""
    fitted = np.zeros(samples, np.float32)
    fitted[: min(samples, len(waveform))] = waveform[:samples]
    return fitted


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
    samples = resample(waveform, rate, MP3_RATE)
    content = io.BytesIO()
    # libsndfile maps the compression level from 0 to 1 to 320 to 32 kbit/s at this sample rate.
    level = (320 - MP3_KBITS) / (320 - 32)
    soundfile.write(
        content, np.clip(samples, -1, 1), MP3_RATE, format="MP3", bitrate_mode="CONSTANT", compression_level=level
    )
    return content.getvalue()
