"""What the handler makes of a request. TorchServe allows no class but the handler itself in handler.py."""

from dataclasses import dataclass

from audiocnn.analysis import WindowSpectrograms
from audiocnn.errors import AudioCNNError
from audiocnn.recordings import AnswerOptions
from audiocnn.streams import SoundStream


class Unauthorized(AudioCNNError):
    """A request without a valid key."""

    reason = "unauthorized"


@dataclass(frozen=True)
class Recording:
    """The decoded recording of one request, and what its answer shall contain."""

    options: AnswerOptions
    chunks: list[WindowSpectrograms]
    stream: SoundStream  # closed
