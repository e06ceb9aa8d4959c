"""Encode audio files in memory, and forge their headers."""

import io
import struct
from typing import Any

import numpy as np
import soundfile

RATE = 22_050
NOISE = (np.random.default_rng(0).standard_normal((RATE, 1)) * 0.1).astype(np.float32)
LOSSLESS = [  # container, subtype, tolerance of a sample
    ("WAV", "PCM_U8", 2**-6),
    ("WAV", "PCM_16", 2**-14),
    ("WAV", "PCM_24", 2**-14),
    ("WAV", "PCM_32", 2**-14),
    ("WAV", "FLOAT", 0.0),
    ("WAV", "DOUBLE", 2**-20),
    ("WAVEX", "PCM_16", 2**-14),
    ("RF64", "PCM_16", 2**-14),
    ("W64", "PCM_24", 2**-14),
    ("AIFF", "PCM_16", 2**-14),
    ("CAF", "PCM_16", 2**-14),
    ("CAF", "ALAC_16", 2**-14),
    ("AU", "PCM_16", 2**-14),
    ("FLAC", "PCM_16", 2**-14),
    ("FLAC", "PCM_24", 2**-14),
]
LOSSY = [("WAV", "ULAW"), ("WAV", "IMA_ADPCM"), ("WAV", "MS_ADPCM"), ("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III")]
ENCODINGS = [(container, subtype) for container, subtype, _ in LOSSLESS] + LOSSY


def encode(
    samples: np.ndarray, rate: int = RATE, container: str = "WAV", subtype: str = "PCM_16", **options: Any
) -> bytes:
    """Return the content of an audio file; samples of shape (frames,) or (frames, channels)."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=container, subtype=subtype, **options)
    return buffer.getvalue()


def set_wav_field(content: bytes, offset: int, layout: str, value: int) -> bytes:
    """Overwrite a field of a 44-byte WAV header."""
    forged = bytearray(content)
    struct.pack_into(layout, forged, offset, value)
    return bytes(forged)


def set_flac_length(content: bytes, samples: int) -> bytes:
    """Overwrite the 36-bit sample count of FLAC's STREAMINFO; 0 is unknown."""
    forged = bytearray(content)
    forged[21] = forged[21] & 0xF0 | samples >> 32
    forged[22:26] = struct.pack(">I", samples & 0xFFFFFFFF)
    return bytes(forged)
