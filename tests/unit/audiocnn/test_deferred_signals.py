"""Signals that wait for the end of a block, such as the decoding of a recording."""

import io
import os
import signal
import threading

import numpy as np
import pytest
import soundfile

from audiocnn.deferred_signals import defer_signals
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


def test_other_threads_than_the_main_one_set_no_handler() -> None:
    handlers = []

    def work() -> None:
        with defer_signals():
            handlers.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert handlers == [before]
