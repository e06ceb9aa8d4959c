"""A sound for probes."""

import io
import math
import wave
from array import array
from functools import cache

HZ = 440
RATE = 16_000  # samples per second


@cache
def tone() -> bytes:
    """Return a WAV file with one second of a sine."""
    samples = array("h", (round(16384 * math.sin(2 * math.pi * HZ * index / RATE)) for index in range(RATE)))
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples)
    return content.getvalue()
