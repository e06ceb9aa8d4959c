"""Changes of a recording that a classifier should withstand: noise, level, bandwidth, compression, time and room.

Noise and room are the same for every clip and model, so that models can be compared.
"""

from collections.abc import Callable

import numpy as np
import soxr

from audiocnn.audio import MP3_KBITS, decode, encode_mp3, with_length
from audiocnn.resampling import FloatArray

BAND_HZ = 8000
SHIFT = 0.1  # share of the clip
REVERBERATION_SECONDS = 0.5  # until the room's response has fallen by 60 dB


def add_noise(waveform: FloatArray, snr_db: float) -> FloatArray:
    """Add white noise with a level `snr_db` below that of the clip, both measured over its whole length."""
    noise = np.random.default_rng(0).normal(size=len(waveform)) * _rms(waveform) * 10 ** (-snr_db / 20)
    return (waveform + noise).astype(np.float32)


def change_level(waveform: FloatArray, db: float) -> FloatArray:
    """Amplify by `db`."""
    return waveform * np.float32(10 ** (db / 20))


def limit_band(waveform: FloatArray, rate: int) -> FloatArray:
    """Remove what is above BAND_HZ; at a sample rate of twice that or less, there is nothing."""
    if rate <= 2 * BAND_HZ:
        return waveform
    return with_length(soxr.resample(soxr.resample(waveform, rate, 2 * BAND_HZ), 2 * BAND_HZ, rate), len(waveform))


def compress(waveform: FloatArray, rate: int) -> FloatArray:
    """Encode as MP3 and decode."""
    decoded = decode(encode_mp3(waveform, rate))
    return with_length(soxr.resample(decoded.mono, decoded.rate, rate), len(waveform))


def shift(waveform: FloatArray) -> FloatArray:
    """Let the clip begin later, after silence; its end is cut."""
    return with_length(np.concatenate([np.zeros(round(SHIFT * len(waveform)), np.float32), waveform]), len(waveform))


def add_room(waveform: FloatArray, rate: int) -> FloatArray:
    """Convolve with a synthetic impulse response; the clip keeps its level.

    The response is the direct sound and as much energy of noise that decays exponentially (Polack's model, in Habets,
    Single- and Multi-Microphone Speech Dereverberation, 2007).
    """
    from scipy.signal import fftconvolve

    seconds = np.arange(1, round(REVERBERATION_SECONDS * rate)) / rate
    reverberation = np.random.default_rng(0).normal(size=len(seconds)) * 10 ** (-3 * seconds / REVERBERATION_SECONDS)
    response = np.concatenate([[1.0], reverberation / np.linalg.norm(reverberation)])
    wet = with_length(fftconvolve(waveform, response), len(waveform))
    return wet * np.float32(_rms(waveform) / max(_rms(wet), 1e-12))


CHANGES: dict[str, Callable[[FloatArray, int], FloatArray]] = {
    "white noise, 20 dB below the clip": lambda waveform, _: add_noise(waveform, 20),
    "white noise, 10 dB below the clip": lambda waveform, _: add_noise(waveform, 10),
    "white noise as loud as the clip": lambda waveform, _: add_noise(waveform, 0),
    "20 dB quieter": lambda waveform, _: change_level(waveform, -20),
    f"nothing above {BAND_HZ // 1000} kHz": limit_band,
    f"MP3 with {MP3_KBITS} kbit/s": compress,
    f"{SHIFT:.0%} of the clip later": lambda waveform, _: shift(waveform),
    f"in a room, {REVERBERATION_SECONDS} s of reverberation": add_room,
}
"""By description: functions of a waveform of shape (samples,) and its rate in Hz that return one of the same shape."""


def _rms(waveform: FloatArray) -> float:
    return float(np.sqrt(np.mean(np.square(waveform, dtype=np.float64))))
