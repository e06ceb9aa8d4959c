"""What a signal does to a step."""

import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiocnn import audio
from mlops.runtime import defer_signals, sigterm_as_exit


def send(number: int) -> None:
    os.kill(os.getpid(), number)


def test_sigterm_is_an_exit_within_the_block_and_what_it_was_after_it() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as left, sigterm_as_exit():
        send(signal.SIGTERM)
    assert left.value.code == 143 and signal.getsignal(signal.SIGTERM) == before


def test_whoever_has_a_handler_already_keeps_it() -> None:
    came = []
    before = signal.signal(signal.SIGTERM, lambda number, _: came.append(number))
    try:
        with sigterm_as_exit():
            send(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert came == [signal.SIGTERM]


@pytest.mark.parametrize("block", [sigterm_as_exit, defer_signals])
def test_another_thread_than_the_main_one_is_let_be(block) -> None:
    done = []

    def work() -> None:
        with block():
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [True]


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_signal_that_comes_while_a_clip_is_decoded_is_not_lost(
    number: int,
    error: type[BaseException],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(1000), 8000)
    seek, decoded = audio._Bytes.seek, []

    def seek_and_send(self: audio._Bytes, offset: int, whence: int = 0) -> int:  # libsndfile calls it
        send(number)
        return seek(self, offset, whence)

    monkeypatch.setattr(audio._Bytes, "seek", seek_and_send)
    with pytest.raises(error), sigterm_as_exit(), defer_signals():
        decoded.append(audio.decode(tmp_path / "a.wav"))
    assert len(decoded[0].samples) == 1000 and "Traceback" not in capfd.readouterr().err
