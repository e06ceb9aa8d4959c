"""A training's state as bytes, and where it is kept: nothing in them is executed when they are read."""

import hashlib
import io
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch

from audiocnn.errors import AudioCNNError


class CheckpointError(AudioCNNError):
    """A checkpoint that cannot be used."""


class Checkpoints(Protocol):
    """Keeps the latest state of one training; a reader sees a whole one or none."""

    def read(self) -> bytes | None: ...
    def write(self, content: bytes) -> None: ...


def encode(state: dict[str, Any]) -> bytes:
    """Tensors, numbers, text and containers of them, as bytes: a SHA-256, and what it is of."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    body = buffer.getvalue()
    return hashlib.sha256(body).digest() + body


def decode(content: bytes) -> dict[str, Any]:
    """What `encode` was given.

    Raises:
        CheckpointError: the bytes are not its, or were damaged.
    """
    size = hashlib.sha256().digest_size
    digest, body = content[:size], content[size:]
    if hashlib.sha256(body).digest() != digest:
        raise CheckpointError("cannot resume from this checkpoint: it is cut, damaged or no checkpoint at all")
    with understood():
        state: dict[str, Any] = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
        return state


@contextmanager
def understood() -> Iterator[None]:
    """Within the block, what a broken or foreign state does to its reader becomes a CheckpointError."""
    try:
        yield
    except (RuntimeError, KeyError, TypeError, AttributeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        # torch's first line says what is wrong; the others advise to load it without safety.
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"cannot resume from this checkpoint ({reason})") from error
