"""Ten synthetic environmental sounds: each function turns a random generator into five seconds of one of them.

The ten fall into three families: noise (rain, sea waves, fire), pulses (clock, helicopter, engine) and tones (siren,
birds, bells, alarm). Within a family the long-term spectra overlap on purpose and the course over time tells the
classes apart, so that a classifier has to listen rather than to measure an average.

Everything is computed in float64: processors differ in the last bits of a sine, and those must vanish when `record`
rounds to 16 bits. What rings past the end of a clip goes on at its start, as if the clip were cut from a longer one.
"""

import math

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Wave = NDArray[np.float64]
Spectrum = NDArray[np.complex128]

RATE = 44_100  # Hz
SECONDS = 5
SAMPLES = RATE * SECONDS
TIME: Wave = np.arange(SAMPLES, dtype=np.float64) / RATE
_FREQUENCIES: Wave = np.arange(SAMPLES // 2 + 1, dtype=np.float64) / SECONDS  # Hz, of each bin of a clip's spectrum


# --- materials -------------------------------------------------------------------------------------------------------


def log_uniform(rng: Generator, low: float, high: float, size: int = 1) -> Wave:
    """Draw positive numbers whose logarithm is uniform, as pitches, rates and decays are heard; shape (size,)."""
    return np.exp2(rng.uniform(np.log2(low), np.log2(high), size))


def unit(wave: Wave) -> Wave:
    """Scale to an RMS of one."""
    return wave / np.sqrt(np.mean(wave**2))


def fraction(turns: Wave) -> Wave:
    """Position in the current turn, 0 to 1; several times faster than `turns % 1`."""
    return turns - np.floor(turns)


def equaliser(rng: Generator, tilt: float, depth: float = 4.0) -> Wave:
    """Gain of each frequency bin, shape (SAMPLES // 2 + 1,): `tilt` dB an octave, three bumps of up to `depth` dB.

    Below 60 Hz it falls off as a microphone does; otherwise a falling tilt would spend the level on what none can hear.
    """
    octaves = np.linspace(-6.5, 4.5, 111)  # from 1 kHz; gains are smooth, so a tenth of an octave is fine enough
    decibels = tilt * octaves - 18 * np.maximum(-4 - octaves, 0)
    for centre, width, height in rng.uniform([-4, 0.3, -depth], [3, 1.2, depth], (3, 3)):
        decibels += height * np.exp(-0.5 * ((octaves - centre) / width) ** 2)
    return np.interp(_FREQUENCIES, 1000 * np.exp2(octaves), 10 ** (decibels / 20))


def noise(rng: Generator, tilt: float) -> Wave:
    """Stationary noise of unit RMS whose spectrum rises by `tilt` dB an octave (falls when negative), with bumps."""
    return unit(np.fft.irfft(noise_spectrum(rng, tilt), SAMPLES))


def noise_spectrum(rng: Generator, tilt: float) -> Spectrum:
    """The spectrum of such noise, at no particular level, shape (SAMPLES // 2 + 1,).

    Its parts are uniform, not normal: three times faster, and the sum of so many bins is normal all the same.
    """
    spectrum: Spectrum = rng.uniform(-1, 1, SAMPLES + 2).view(np.complex128)
    spectrum *= equaliser(rng, tilt)
    return spectrum


def wander(rng: Generator, per_second: float, low: float, high: float) -> Wave:
    """A curve that strays between `low` and `high`, with `per_second` turning points, shape (SAMPLES,)."""
    knots = max(2, round(per_second * SECONDS) + 1)
    return np.interp(TIME, np.linspace(0, SECONDS, knots), rng.uniform(low, high, knots))


def ring(frequencies: Wave, decays: Wave, size: int) -> Wave:
    """Tones (Hz) that each fall to 1/e in their decay (s), shape (n, size) for n frequencies and n decays.

    The powers z**n of a complex number, as an outer product of two short tables: ten times faster than sin and exp.
    """
    steps = (-1 / decays + 2j * np.pi * frequencies)[:, None, None] / RATE
    block = math.isqrt(size)
    blocks = -(-size // block)
    powers = np.exp(steps * block * np.arange(blocks)[:, None]) * np.exp(steps * np.arange(block))
    return powers.imag.reshape(len(powers), blocks * block)[:, :size]


def repeat(kernel: Wave, starts: Wave, strengths: Wave) -> Wave:
    """Sound `kernel` at each of `starts` (seconds) with its strength; what passes the end goes on at the beginning."""
    long = np.zeros(SAMPLES + kernel.size)
    for start, strength in zip((starts * RATE).astype(np.int64), strengths, strict=True):
        long[start : start + kernel.size] += strength * kernel
    long[: kernel.size] += long[SAMPLES:]
    return long[:SAMPLES]


def snaps(starts: Wave, frequencies: Wave, cycles: Wave, strengths: Wave) -> Wave:
    """Clicks of up to 10 ms, together of unit RMS: damped tones (Hz) of so few `cycles` that no pitch is heard."""
    size = RATE // 100
    waves = ring(frequencies, cycles / frequencies, size) * strengths[:, None]
    long = np.zeros(SAMPLES + size)
    for start, wave in zip((starts * RATE).astype(np.int64), waves, strict=True):
        long[start : start + size] += wave
    long[:size] += long[SAMPLES:]
    return unit(long[:SAMPLES])


def tone(frequency: Wave, harmonics: Wave) -> Wave:
    """A tone of changing pitch (Hz, shape (n,)): harmonic k + 1 has the strength harmonics[k]."""
    angle = 2 * np.pi * fraction(np.cumsum(frequency) / RATE)
    before, now, twice_cosine = np.zeros_like(angle), np.sin(angle), 2 * np.cos(angle)
    sound = np.zeros_like(angle)
    for strength in harmonics:
        sound += strength * now
        before, now = now, twice_cosine * now - before  # sin((k + 1)x) from sin(kx) and sin((k - 1)x)
    return sound


def beats(rng: Generator, period: float, jitter: float) -> Wave:
    """Times (s) of a steady beat from a random start to the clip's end; each is off by `jitter` of the period (SD)."""
    times = np.arange(rng.uniform(0, period), SECONDS, period)
    return np.clip(times + period * jitter * rng.standard_normal(times.size), 0, SECONDS - 1 / RATE)


def rotation(rng: Generator, rate: Wave) -> tuple[Wave, Wave]:
    """Turn at `rate` (Hz, shape (SAMPLES,)) from a random start: the position in the turn, and when (s) turns begin."""
    turn = fraction(np.cumsum(rate) / RATE + rng.uniform())
    return turn, TIME[1:][np.diff(turn) < 0]


def body(rng: Generator, low: float, high: float, decay: float) -> Wave:
    """What is struck: five damped modes between `low` and `high` Hz and a puff of noise, a tenth of a second in all."""
    size = RATE // 10
    modes = ring(log_uniform(rng, low, high, 5), decay * rng.uniform(0.4, 1.6, 5), size).sum(axis=0)
    puff = rng.uniform(-1, 1, size) * np.exp(-TIME[:size] / (0.4 * decay))
    return modes + rng.uniform(0.2, 1) * puff


# --- the recording ---------------------------------------------------------------------------------------------------


def record(sound: Wave, rng: Generator) -> NDArray[np.int16]:
    """Hold a microphone to `sound`: its response, the room's echo, a background 5 to 30 dB below, any input level."""
    response = equaliser(rng, tilt=rng.uniform(-1, 1))
    tail = TIME[: RATE // 2]
    echo = rng.uniform(-1, 1, tail.size) * np.exp(-tail / rng.uniform(0.02, 0.1))
    echo[0] = np.sqrt(np.sum(echo**2)) * rng.uniform(1.5, 6.0)  # the direct sound, 4 to 16 dB above the echo
    near = np.fft.rfft(sound) * response * np.fft.rfft(echo, SAMPLES)
    far = noise_spectrum(rng, tilt=rng.uniform(-5, -2))
    below = 10 ** (-rng.uniform(5, 30) / 20) * np.sqrt(_power(near) / _power(far))
    clip = np.fft.irfft(near + below * far, SAMPLES)
    peak = 32_767 * 10 ** (-rng.uniform(1, 18) / 20)  # 1 to 18 dB below full scale
    return np.rint(clip * (peak / np.max(np.abs(clip)))).astype(np.int16)


def _power(spectrum: Spectrum) -> float:
    """Mean squared magnitude over the bins."""
    return float(np.mean(spectrum.real**2) + np.mean(spectrum.imag**2))


# --- noise -----------------------------------------------------------------------------------------------------------


def rain(rng: Generator) -> Wave:
    """The steady hiss of far drops and the dense patter of near ones."""
    count = int(rng.integers(400, 1600))
    drops = snaps(
        starts=rng.uniform(0, SECONDS, count),
        frequencies=log_uniform(rng, 500, 8000, count),
        cycles=rng.uniform(1, 4, count),
        strengths=rng.exponential(1, count),
    )
    hiss = noise(rng, tilt=rng.uniform(-2, 2)) * wander(rng, 1, 0.8, 1)
    return hiss + rng.uniform(0.5, 1.5) * drops


def sea_waves(rng: Generator) -> Wave:
    """Noise that swells quickly and drains slowly every few seconds, brighter at the crest than in the trough."""
    place, crest = np.linspace(0, 1, 200), rng.uniform(0.2, 0.5)
    shape = np.where(place < crest, place / crest, (1 - place) / (1 - crest)) ** rng.uniform(1.2, 2.5)
    swell = np.interp(fraction(TIME / rng.uniform(1.8, 5) + rng.uniform()), place, shape)
    tilt = rng.uniform(-4, -1)
    rumble = noise(rng, tilt - 2) * (0.25 + swell)
    spray = noise(rng, tilt + 2) * swell**2
    return rumble + rng.uniform(0.4, 1.2) * spray


def crackling_fire(rng: Generator) -> Wave:
    """A fluttering roar under sparse snaps of very unequal strength that come in flurries."""
    count = int(rng.integers(25, 150))
    flurries = rng.uniform(0, SECONDS, count // 6)
    crackle = snaps(
        starts=(rng.choice(flurries, count) + rng.exponential(0.08, count)) % SECONDS,
        frequencies=log_uniform(rng, 400, 7000, count),
        cycles=rng.uniform(0.5, 2, count),
        strengths=np.minimum(rng.pareto(1.6, count) + 0.3, 8),
    )
    roar = noise(rng, tilt=rng.uniform(-8, -3)) * wander(rng, 7, 0.5, 1)
    return roar + rng.uniform(0.8, 2) * crackle


# --- pulses ----------------------------------------------------------------------------------------------------------


def clock_tick(rng: Generator) -> Wave:
    """Two short clicks in turn, tick and tock, two to five a second, as regular as a clock."""
    starts = beats(rng, period=1 / rng.uniform(1.6, 5), jitter=0.004)
    tick, tock = (body(rng, 1000, 8000, decay=rng.uniform(0.002, 0.01)) for _ in range(2))
    strengths = rng.uniform(0.85, 1, starts.size)
    strengths[1::2] *= rng.uniform(0.3, 1)
    clock = repeat(tick, starts[::2], strengths[::2]) + repeat(tock, starts[1::2], strengths[1::2])
    return unit(clock) + rng.uniform(0.1, 0.4) * noise(rng, tilt=rng.uniform(-4, -1))


def helicopter(rng: Generator) -> Wave:
    """Rotor blades that beat the air seven to sixteen times a second: a thump each, and wind chopped in that rhythm."""
    turn, starts = rotation(rng, rng.uniform(7, 16) * wander(rng, 0.4, 0.97, 1.03))
    thump = repeat(body(rng, 50, 500, decay=0.012), starts, rng.uniform(0.8, 1, starts.size))
    chop = np.exp(-turn * rng.uniform(3, 7))
    wind = noise(rng, tilt=rng.uniform(-8, -4)) * (rng.uniform(0.05, 0.3) + chop)
    return (unit(thump) + rng.uniform(0.5, 1.5) * unit(wind)) * wander(rng, 0.4, 0.4, 1)


def engine(rng: Generator) -> Wave:
    """Cylinders that fire unequally, some 30 to 90 times a second, as the driver plays with the throttle."""
    turn, starts = rotation(rng, rng.uniform(28, 80) * wander(rng, rng.uniform(0.4, 1.2), 0.8, 1.25))
    cylinders = np.resize(rng.uniform(0.4, 1, rng.integers(2, 7)), starts.size)
    bang = repeat(body(rng, 80, 1500, decay=0.006), starts, cylinders * rng.uniform(0.8, 1, starts.size))
    hiss = noise(rng, tilt=rng.uniform(-8, -5)) * (0.5 + 0.5 * np.exp(-3 * turn))
    return unit(bang) + rng.uniform(0.3, 1) * hiss


# --- tones -----------------------------------------------------------------------------------------------------------


def siren(rng: Generator) -> Wave:
    """A tone that never stops and whose pitch wails slowly, yelps quickly or steps between two notes."""
    kind = rng.choice(["wail", "yelp", "two-tone"])
    period = {"wail": rng.uniform(2.5, 6), "yelp": rng.uniform(0.25, 0.6), "two-tone": rng.uniform(0.8, 1.4)}[kind]
    position = fraction(TIME / period + rng.uniform())
    contour = np.where(position < 0.5, 0.0, 1.0) if kind == "two-tone" else 0.5 - 0.5 * np.cos(2 * np.pi * position)
    octaves = rng.uniform(0.3, 0.5) if kind == "two-tone" else rng.uniform(0.6, 1.2)
    harmonics = rng.uniform(0.3, 1, 4) / np.arange(1, 5)
    return tone(log_uniform(rng, 450, 900) * np.exp2(octaves * contour), harmonics) * wander(rng, 0.6, 0.5, 1)


def chirping_birds(rng: Generator) -> Wave:
    """One to three birds, each with a chirp of its own that slides up or down, sung in phrases with rests between."""
    sound = np.zeros(SAMPLES)
    for strength in rng.uniform(0.3, 1, rng.integers(1, 4)):
        length = rng.uniform(0.03, 0.14)
        slide = np.linspace(0, 1, round(length * RATE))
        contour = rng.uniform(0.3, 0.9) * rng.choice([-1, 1]) * slide ** rng.uniform(0.5, 2)
        chirp = tone(log_uniform(rng, 1800, 4500) * np.exp2(contour), np.array([1, 0.1])) * np.sin(np.pi * slide)
        gaps = length * rng.uniform(1.2, 2.5) + rng.uniform(0, 0.02, 100)
        gaps[rng.uniform(size=100) < 0.2] += rng.uniform(0.3, 1.2)
        starts = np.cumsum(gaps)
        starts = starts[starts < SECONDS]
        sound += strength * repeat(chirp, starts, rng.uniform(0.6, 1, starts.size))
    return sound


def church_bells(rng: Generator) -> Wave:
    """One to three bells, each with a bell's inharmonic partials, struck every second or so and ringing on."""
    ratios = np.array([0.5, 1.0, 1.19, 1.5, 2.0, 2.66, 3.01, 4.1])
    sound = np.zeros(SAMPLES)
    for pitch in log_uniform(rng, 300, 1100) * np.array([1.0, 0.84, 0.75])[: rng.integers(1, 4)]:
        partials = ring(pitch * ratios * rng.normal(1, 0.004, 8), rng.uniform(0.8, 2.5) / ratios**0.8, SAMPLES)
        bell = np.einsum("i,ij->j", rng.uniform(0.2, 1, 8), partials)
        starts = beats(rng, period=rng.uniform(0.7, 2.2), jitter=0.03)
        sound += repeat(bell, starts, rng.uniform(0.5, 1, starts.size))
    return sound


def clock_alarm(rng: Generator) -> Wave:
    """Beeps of one fixed pitch and length, in groups of one to five with a rest after each group."""
    beep, pulses = rng.uniform(0.05, 0.25), rng.integers(1, 6)
    step, rest = beep * rng.uniform(1.5, 2.2), rng.uniform(0.2, 0.8)
    group = pulses * step + rest
    position = group * fraction(TIME / group + rng.uniform())
    since = np.where(position < pulses * step, step * fraction(position / step), beep)
    loudness = np.clip(np.minimum(since, beep - since) / 0.005, 0, 1)  # a hard edge would click
    harmonics = rng.uniform(0.1, 1, 4) / np.arange(1, 5)
    return tone(np.full(SAMPLES, log_uniform(rng, 1400, 3400)), harmonics) * loudness
