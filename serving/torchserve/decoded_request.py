"""A decoded request. TorchServe allows no class but the handler itself in handler.py."""

from dataclasses import dataclass

from audiocnn.analysis import WindowSpectrograms
from audiocnn.recordings import AnswerOptions
from audiocnn.streams import SoundStream


@dataclass(frozen=True)
class DecodedRequest:
    """The spectrograms of the recording of one request, and what the answer shall contain."""

    options: AnswerOptions
    chunks: list[WindowSpectrograms]
    stream: SoundStream  # closed
