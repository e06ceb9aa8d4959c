"""Ten synthetic environmental sounds: each function turns a random generator into a signal of shape (SAMPLES,).

They form three families: noise (rain, sea waves, fire), pulses (clock, helicopter, engine) and tones (siren, birds,
bells, alarm). Within a family the long-term spectra overlap, so that a classifier has to use the course over time.
"""

import numpy as np
from numpy.random import Generator

from audiocnn.synthetic.signals import (
    RATE,
    SAMPLES,
    SECONDS,
    TIME,
    Signal,
    beat_times,
    clicks,
    damped_tones,
    impact,
    log_uniform,
    noise,
    phase,
    random_curve,
    repeat,
    rotation,
    tone,
    unit_rms,
)


def rain(rng: Generator) -> Signal:
    """Synthesize the steady noise of distant drops and many single drops nearby."""
    count = int(rng.integers(400, 1600))
    drops = clicks(
        starts=rng.uniform(0, SECONDS, count),
        frequencies=log_uniform(rng, 500, 8000, count),
        cycles=rng.uniform(1, 4, count),
        strengths=rng.exponential(1, count),
    )
    hiss = noise(rng, tilt=rng.uniform(-2, 2)) * random_curve(rng, 1, 0.8, 1)
    return hiss + rng.uniform(0.5, 1.5) * drops


def sea_waves(rng: Generator) -> Signal:
    """Synthesize noise that swells quickly and falls slowly every few seconds, brightest at its maximum."""
    place, crest = np.linspace(0, 1, 200), rng.uniform(0.2, 0.5)
    shape = np.where(place < crest, place / crest, (1 - place) / (1 - crest)) ** rng.uniform(1.2, 2.5)
    swell = np.interp(phase(TIME / rng.uniform(1.8, 5) + rng.uniform()), place, shape)
    tilt = rng.uniform(-4, -1)
    rumble = noise(rng, tilt - 2) * (0.25 + swell)
    spray = noise(rng, tilt + 2) * swell**2
    return rumble + rng.uniform(0.4, 1.2) * spray


def crackling_fire(rng: Generator) -> Signal:
    """Synthesize fluctuating noise and groups of clicks of very different strengths."""
    count = int(rng.integers(25, 150))
    flurries = rng.uniform(0, SECONDS, count // 6)
    crackle = clicks(
        starts=(rng.choice(flurries, count) + rng.exponential(0.08, count)) % SECONDS,
        frequencies=log_uniform(rng, 400, 7000, count),
        cycles=rng.uniform(0.5, 2, count),
        strengths=np.minimum(rng.pareto(1.6, count) + 0.3, 8),
    )
    roar = noise(rng, tilt=rng.uniform(-8, -3)) * random_curve(rng, 7, 0.5, 1)
    return roar + rng.uniform(0.8, 2) * crackle


def clock_tick(rng: Generator) -> Signal:
    """Synthesize two alternating clicks, two to five per second, at regular intervals."""
    starts = beat_times(rng, period=1 / rng.uniform(1.6, 5), jitter=0.004)
    tick, tock = (impact(rng, 1000, 8000, decay=rng.uniform(0.002, 0.01)) for _ in range(2))
    strengths = rng.uniform(0.85, 1, starts.size)
    strengths[1::2] *= rng.uniform(0.3, 1)
    clock = repeat(tick, starts[::2], strengths[::2]) + repeat(tock, starts[1::2], strengths[1::2])
    return unit_rms(clock) + rng.uniform(0.1, 0.4) * noise(rng, tilt=rng.uniform(-4, -1))


def helicopter(rng: Generator) -> Signal:
    """Synthesize rotor blades: seven to sixteen impacts per second, and noise modulated at the same rate."""
    turn, starts = rotation(rng, rng.uniform(7, 16) * random_curve(rng, 0.4, 0.97, 1.03))
    thump = repeat(impact(rng, 50, 500, decay=0.012), starts, rng.uniform(0.8, 1, starts.size))
    chop = np.exp(-turn * rng.uniform(3, 7))
    wind = noise(rng, tilt=rng.uniform(-8, -4)) * (rng.uniform(0.05, 0.3) + chop)
    return (unit_rms(thump) + rng.uniform(0.5, 1.5) * unit_rms(wind)) * random_curve(rng, 0.4, 0.4, 1)


def engine(rng: Generator) -> Signal:
    """Synthesize unequal cylinders that fire about 30 to 90 times per second at a varying speed."""
    turn, starts = rotation(rng, rng.uniform(28, 80) * random_curve(rng, rng.uniform(0.4, 1.2), 0.8, 1.25))
    cylinders = np.resize(rng.uniform(0.4, 1, rng.integers(2, 7)), starts.size)
    bang = repeat(impact(rng, 80, 1500, decay=0.006), starts, cylinders * rng.uniform(0.8, 1, starts.size))
    hiss = noise(rng, tilt=rng.uniform(-8, -5)) * (0.5 + 0.5 * np.exp(-3 * turn))
    return unit_rms(bang) + rng.uniform(0.3, 1) * hiss


def siren(rng: Generator) -> Signal:
    """Synthesize a continuous tone whose pitch rises and falls slowly, quickly, or alternates between two notes."""
    kind = rng.choice(["wail", "yelp", "two-tone"])
    period = {"wail": rng.uniform(2.5, 6), "yelp": rng.uniform(0.25, 0.6), "two-tone": rng.uniform(0.8, 1.4)}[kind]
    position = phase(TIME / period + rng.uniform())
    contour = np.where(position < 0.5, 0.0, 1.0) if kind == "two-tone" else 0.5 - 0.5 * np.cos(2 * np.pi * position)
    octaves = rng.uniform(0.3, 0.5) if kind == "two-tone" else rng.uniform(0.6, 1.2)
    harmonics = rng.uniform(0.3, 1, 4) / np.arange(1, 5)
    return tone(log_uniform(rng, 450, 900) * np.exp2(octaves * contour), harmonics) * random_curve(rng, 0.6, 0.5, 1)


def chirping_birds(rng: Generator) -> Signal:
    """Synthesize one to three birds, each with its own rising or falling chirp, in phrases with pauses."""
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


def church_bells(rng: Generator) -> Signal:
    """Synthesize one to three bells with inharmonic partials, struck about once per second."""
    ratios = np.array([0.5, 1.0, 1.19, 1.5, 2.0, 2.66, 3.01, 4.1])
    sound = np.zeros(SAMPLES)
    for pitch in log_uniform(rng, 300, 1100) * np.array([1.0, 0.84, 0.75])[: rng.integers(1, 4)]:
        partials = damped_tones(pitch * ratios * rng.normal(1, 0.004, 8), rng.uniform(0.8, 2.5) / ratios**0.8, SAMPLES)
        bell = np.einsum("i,ij->j", rng.uniform(0.2, 1, 8), partials)
        starts = beat_times(rng, period=rng.uniform(0.7, 2.2), jitter=0.03)
        sound += repeat(bell, starts, rng.uniform(0.5, 1, starts.size))
    return sound


def clock_alarm(rng: Generator) -> Signal:
    """Synthesize beeps of constant pitch and length, in groups of one to five separated by pauses."""
    beep, pulses = rng.uniform(0.05, 0.25), rng.integers(1, 6)
    step, rest = beep * rng.uniform(1.5, 2.2), rng.uniform(0.2, 0.8)
    group = pulses * step + rest
    position = group * phase(TIME / group + rng.uniform())
    since = np.where(position < pulses * step, step * phase(position / step), beep)
    loudness = np.clip(np.minimum(since, beep - since) / 0.005, 0, 1)  # ramps, or the edges would click
    harmonics = rng.uniform(0.1, 1, 4) / np.arange(1, 5)
    return tone(np.full(SAMPLES, log_uniform(rng, 1400, 3400)), harmonics) * loudness
