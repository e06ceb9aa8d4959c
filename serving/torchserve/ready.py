"""Readiness probe of a container: `python -m serving.torchserve.ready` exits with 0 if a model answers a request."""

import io
import math
import struct
import sys
import wave

from audiocnn.errors import AudioCNNError
from serving.torchserve.client import TorchServeClient, environment_key
from serving.torchserve.start import INFERENCE, MANAGEMENT

TONE_HZ = 440


def tone(rate: int = 16000) -> bytes:
    """Return a WAV file with one second of a sine."""
    samples = (round(16384 * math.sin(2 * math.pi * TONE_HZ * index / rate)) for index in range(rate))
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(b"".join(struct.pack("<h", sample) for sample in samples))
    return content.getvalue()


def problem(client: TorchServeClient) -> str:
    """Return why no model answers; empty if one does."""
    try:
        models = client.list_models()
        for name in models:
            client.predict(tone(), name)
    except AudioCNNError as error:
        return str(error)
    return "" if models else "no model is registered; it is registered by the first deploy"


def main() -> int:
    """Print the problem, if there is one, and return the exit status."""
    found = problem(TorchServeClient(INFERENCE, MANAGEMENT, key=environment_key()))
    print(found or "ready")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
