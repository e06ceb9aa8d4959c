"""Signals while a recording is decoded."""

import io
import os
import signal

import numpy as np
import pytest
import soundfile

from audiocnn.streams import open_stream
from mlops.runtime import sigterm_as_exit


class File(io.BytesIO):
    """A file that sends a signal to the process when libsndfile reads it."""

    number = 0  # none

    def readinto(self, buffer) -> int:
        os.kill(os.getpid(), self.number)
        return super().readinto(buffer)


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
@pytest.mark.parametrize("opened", [False, True])
def test_signal_during_decoding_is_not_lost(number: int, error: type[BaseException], opened: bool, capfd) -> None:
    file = File()
    soundfile.write(file, np.ones(100_000), 8000, format="WAV")
    file.number = 0 if opened else number
    with pytest.raises(error), sigterm_as_exit(), open_stream(file) as stream:
        file.number = number
        list(stream.blocks())
    assert "Traceback" not in capfd.readouterr().err
