"""The base class of this project's errors, and the errors in the content of audio files."""

from typing import ClassVar


class AudioCNNError(Exception):
    """An error that a user can fix: invalid settings or input, an unavailable server.

    The message names the problem, its place and the remedy. Command lines print it without a traceback and exit with
    status 2.
    """


class AudioError(AudioCNNError):
    """Base class of errors in the content of an audio file. `reason` is the key of the ingest policy."""

    reason: ClassVar[str]

    def __init_subclass__(cls, reason: str) -> None:
        cls.reason = reason


class Undecodable(AudioError, reason="undecodable"):
    """Not audio, not in a supported format, or several streams of audio."""


class Empty(AudioError, reason="empty"):
    """No bytes, or no samples."""


class Truncated(AudioError, reason="truncated"):
    """The file ends before the audio that its header announces."""


class NotFinite(AudioError, reason="not_finite"):
    """Floating-point samples that are NaN, infinite or beyond 2**31."""


class Silent(AudioError, reason="silent"):
    """What the network is given never reaches one step of 16-bit audio."""


class TooShort(AudioError, reason="too_short"):
    """Shorter than the minimum duration."""


class TooLong(AudioError, reason="too_long"):
    """Longer than the maximum duration."""
