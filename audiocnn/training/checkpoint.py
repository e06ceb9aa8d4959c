"""Checkpoints: the state of a training as bytes, and the name under which it is stored."""

import hashlib
import io
import json
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch

from audiocnn.config import TrainSettings
from audiocnn.errors import AudioCNNError


class CheckpointError(AudioCNNError):
    """A checkpoint that cannot be used."""


class Checkpoints(Protocol):
    """Storage for the latest state of one training. Readers see a complete state or none."""

    @property
    def location(self) -> str:
        """Path or URL of the checkpoint, for messages."""
        ...

    def read(self) -> bytes | None: ...
    def write(self, content: bytes) -> None: ...


def fingerprint(settings: TrainSettings, spec: dict[str, Any], code: str) -> str:
    """Return the name of a training: 16 hex digits that change with everything that changes the weights.

    Args:
        spec: the description of the spectrograms (spec.json).
        code: versions of the code that trains.
    """
    irrelevant = dict.fromkeys(("device", "checkpoint_minutes", "resident_mb", "test_every"))
    parts = {**settings.to_dict(), **irrelevant, "spec": spec, "code": code}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def encode(state: dict[str, Any]) -> bytes:
    """Serialize tensors, numbers, strings and containers of them, behind a SHA-256 digest of the result."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    body = buffer.getvalue()
    return hashlib.sha256(body).digest() + body


def decode(content: bytes) -> dict[str, Any]:
    """Return the state that `encode` serialized. No code from the content is executed.

    Raises:
        CheckpointError: the content is truncated, damaged or not a checkpoint.
    """
    size = hashlib.sha256().digest_size
    digest, body = content[:size], content[size:]
    if hashlib.sha256(body).digest() != digest:
        raise CheckpointError("cannot resume from this checkpoint: it is truncated, damaged or not a checkpoint")
    with checkpoint_errors():
        state: dict[str, Any] = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
        return state


@contextmanager
def checkpoint_errors() -> Iterator[None]:
    """Turn the errors that reading a damaged or foreign state causes into CheckpointError."""
    try:
        yield
    except (RuntimeError, KeyError, TypeError, AttributeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        # The first line of torch's message is the reason; the others recommend loading with weights_only=False.
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"cannot resume from this checkpoint ({reason})") from error
