"""A sound for probes."""

import io
import math
import struct
import wave

HZ = 440


def tone(rate: int = 16000) -> bytes:
    """Return a WAV file with one second of a sine."""
    samples = (round(16384 * math.sin(2 * math.pi * HZ * index / rate)) for index in range(rate))
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(b"".join(struct.pack("<h", sample) for sample in samples))
    return content.getvalue()
