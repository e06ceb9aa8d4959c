"""The base of every error that a person can mend: bad settings, bad input, a server that does not answer."""


class AudioCNNError(Exception):
    """One sentence that says what is wrong, where, and how to mend it. Command lines print it without a traceback."""
