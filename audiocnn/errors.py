"""The base class of this project's errors."""


class AudioCNNError(Exception):
    """An error that a user can fix: invalid settings or input, an unavailable server.

    The message names the problem, its place and the remedy. Command lines print it without a traceback and exit with
    status 2.
    """
