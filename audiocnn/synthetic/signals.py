"""Building blocks of the synthetic sounds: noise, tones, clicks, random curves, and the simulated recording.

Signals are float64: processors differ in the last bits of a sine, and rounding to 16 bits removes the difference.
Events that last beyond the end of a clip continue at its beginning, as if it were cut from a longer recording.
"""

import math

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Signal = NDArray[np.float64]
Spectrum = NDArray[np.complex128]

RATE = 44_100  # Hz
SECONDS = 5
SAMPLES = RATE * SECONDS
TIME: Signal = np.arange(SAMPLES, dtype=np.float64) / RATE
_FREQUENCIES: Signal = np.arange(SAMPLES // 2 + 1, dtype=np.float64) / SECONDS  # Hz, of the bins of a clip's spectrum


def log_uniform(rng: Generator, low: float, high: float, size: int = 1) -> Signal:
    """Draw numbers whose logarithm is uniform between those of `low` and `high`; shape (size,)."""
    return np.exp2(rng.uniform(np.log2(low), np.log2(high), size))


def unit_rms(signal: Signal) -> Signal:
    """Scale a signal to an RMS of 1."""
    scaled: Signal = signal / np.sqrt(np.mean(signal**2))
    return scaled


def phase(turns: Signal) -> Signal:
    """Return the fractional part; several times faster than `turns % 1`."""
    return turns - np.floor(turns)


def equalizer(rng: Generator, tilt: float) -> Signal:
    """Draw the gain of each frequency bin, shape (SAMPLES // 2 + 1,), with three peaks or dips of up to 4 dB.

    Args:
        tilt: slope in dB per octave. Below 60 Hz the gain falls like a microphone's, or a negative tilt would put most
            of the power there.
    """
    octaves = np.linspace(-6.5, 4.5, 111)  # relative to 1 kHz; gains are smooth, so tenths of an octave suffice
    decibels = tilt * octaves - 18 * np.maximum(-4 - octaves, 0)
    for center, width, height in rng.uniform([-4, 0.3, -4], [3, 1.2, 4], (3, 3)):
        decibels += height * np.exp(-0.5 * ((octaves - center) / width) ** 2)
    gains: Signal = np.interp(_FREQUENCIES, 1000 * np.exp2(octaves), 10 ** (decibels / 20))
    return gains


def noise(rng: Generator, tilt: float) -> Signal:
    """Draw stationary noise of unit RMS, shape (SAMPLES,); its spectrum rises by `tilt` dB per octave."""
    return unit_rms(np.fft.irfft(noise_spectrum(rng, tilt), SAMPLES))


def noise_spectrum(rng: Generator, tilt: float) -> Spectrum:
    """Draw the spectrum of such noise without scaling it, shape (SAMPLES // 2 + 1,).

    Real and imaginary parts are uniform, which is three times faster than normal; their sum over the bins is normal.
    """
    spectrum: Spectrum = rng.uniform(-1, 1, SAMPLES + 2).view(np.complex128)
    spectrum *= equalizer(rng, tilt)
    return spectrum


def random_curve(rng: Generator, per_second: float, low: float, high: float) -> Signal:
    """Interpolate between random values from `low` to `high`, `per_second` of them; shape (SAMPLES,)."""
    knots = max(2, round(per_second * SECONDS) + 1)
    return np.interp(TIME, np.linspace(0, SECONDS, knots), rng.uniform(low, high, knots))


def damped_tones(frequencies: Signal, decays: Signal, size: int) -> Signal:
    """Return exponentially damped sines, shape (n, size).

    They are powers z**n of complex numbers, computed as outer products of two short tables: ten times faster than sin
    and exp.

    Args:
        frequencies: in Hz, shape (n,).
        decays: time to fall to 1/e in s, shape (n,).
        size: number of samples.
    """
    steps = (-1 / decays + 2j * np.pi * frequencies)[:, None, None] / RATE
    block = math.isqrt(size)
    blocks = -(-size // block)
    powers = np.exp(steps * block * np.arange(blocks)[:, None]) * np.exp(steps * np.arange(block))
    return powers.imag.reshape(len(powers), blocks * block)[:, :size]


def repeat(kernel: Signal, starts: Signal, strengths: Signal) -> Signal:
    """Add `kernel` at each of `starts` (s), scaled by its strength; shape (SAMPLES,)."""
    extended = np.zeros(SAMPLES + kernel.size)
    for start, strength in zip((starts * RATE).astype(np.int64), strengths, strict=True):
        extended[start : start + kernel.size] += strength * kernel
    extended[: kernel.size] += extended[SAMPLES:]
    return extended[:SAMPLES]


def clicks(starts: Signal, frequencies: Signal, cycles: Signal, strengths: Signal) -> Signal:
    """Add damped tones of up to 10 ms, scaled together to unit RMS; shape (SAMPLES,).

    Args:
        starts: in s, shape (n,).
        frequencies: in Hz, shape (n,).
        cycles: oscillations until a tone has fallen to 1/e; with few of them no pitch is audible.
        strengths: amplitudes, shape (n,).
    """
    size = RATE // 100
    signals = damped_tones(frequencies, cycles / frequencies, size) * strengths[:, None]
    extended = np.zeros(SAMPLES + size)
    for start, signal in zip((starts * RATE).astype(np.int64), signals, strict=True):
        extended[start : start + size] += signal
    extended[:size] += extended[SAMPLES:]
    return unit_rms(extended[:SAMPLES])


def tone(frequency: Signal, harmonics: Signal) -> Signal:
    """Return a tone of varying pitch `frequency` (Hz, shape (n,)); harmonics[k] is the amplitude of harmonic k + 1."""
    angle = 2 * np.pi * phase(np.cumsum(frequency) / RATE)
    previous, current, twice_cosine = np.zeros_like(angle), np.sin(angle), 2 * np.cos(angle)
    total = np.zeros_like(angle)
    for strength in harmonics:
        total += strength * current
        previous, current = current, twice_cosine * current - previous  # sin((k + 1)x) from sin(kx) and sin((k - 1)x)
    return total


def beat_times(rng: Generator, period: float, jitter: float) -> Signal:
    """Draw the times (s) of a steady beat; `jitter` is their standard deviation as a share of the period."""
    times = np.arange(rng.uniform(0, period), SECONDS, period)
    return np.clip(times + period * jitter * rng.standard_normal(times.size), 0, SECONDS - 1 / RATE)


def rotation(rng: Generator, rate: Signal) -> tuple[Signal, Signal]:
    """Rotate at `rate` (Hz, shape (SAMPLES,)) from a random angle.

    Returns:
        the position in the current turn (0 to 1, shape (SAMPLES,)), and the times (s) at which turns begin.
    """
    turn = phase(np.cumsum(rate) / RATE + rng.uniform())
    return turn, TIME[1:][np.diff(turn) < 0]


def impact(rng: Generator, low: float, high: float, decay: float) -> Signal:
    """Draw the sound of an impact, 0.1 s long: five damped modes from `low` to `high` Hz and a burst of noise."""
    size = RATE // 10
    modes = damped_tones(log_uniform(rng, low, high, 5), decay * rng.uniform(0.4, 1.6, 5), size).sum(axis=0)
    burst = rng.uniform(-1, 1, size) * np.exp(-TIME[:size] / (0.4 * decay))
    sound: Signal = modes + rng.uniform(0.2, 1) * burst
    return sound


def record(signal: Signal, rng: Generator) -> NDArray[np.int16]:
    """Simulate a recording: microphone response, reverberation, background noise 5 to 30 dB below, random level."""
    response = equalizer(rng, tilt=rng.uniform(-1, 1))
    tail = TIME[: RATE // 2]
    echo = rng.uniform(-1, 1, tail.size) * np.exp(-tail / rng.uniform(0.02, 0.1))
    echo[0] = np.sqrt(np.sum(echo**2)) * rng.uniform(1.5, 6.0)  # the direct sound, 4 to 16 dB above the reverberation
    near = np.fft.rfft(signal) * response * np.fft.rfft(echo, SAMPLES)
    background = noise_spectrum(rng, tilt=rng.uniform(-5, -2))
    ratio = 10 ** (-rng.uniform(5, 30) / 20) * np.sqrt(_power(near) / _power(background))
    clip = np.fft.irfft(near + ratio * background, SAMPLES)
    peak = 32_767 * 10 ** (-rng.uniform(1, 18) / 20)  # 1 to 18 dB below full scale
    samples: NDArray[np.int16] = np.rint(clip * (peak / np.max(np.abs(clip)))).astype(np.int16)
    return samples


def _power(spectrum: Spectrum) -> float:
    """Return the mean squared magnitude of the bins."""
    return float(np.mean(spectrum.real**2) + np.mean(spectrum.imag**2))
