"""Signals in a step."""

import os
import signal
import threading

import pytest

from mlops.runtime import sigterm_as_exit, sigterm_as_interrupt


def send(number: int) -> None:
    os.kill(os.getpid(), number)


def test_sigterm_raises_system_exit_and_is_restored() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as raised, sigterm_as_exit():
        send(signal.SIGTERM)
    assert raised.value.code == 143 and signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_raise_keyboard_interrupt(number: int) -> None:
    with pytest.raises(KeyboardInterrupt), sigterm_as_interrupt():
        send(number)


def test_second_signal_does_not_interrupt_the_cleanup() -> None:
    cleaned = []
    with pytest.raises(KeyboardInterrupt), sigterm_as_interrupt():
        try:
            send(signal.SIGTERM)
        finally:
            send(signal.SIGHUP)
            send(signal.SIGTERM)
            cleaned.append(True)
    assert cleaned == [True]


def test_signal_ignored_by_nohup_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with sigterm_as_interrupt():
            send(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("block", [sigterm_as_exit, sigterm_as_interrupt])
def test_existing_handler_is_kept(block) -> None:
    received = []
    before = signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
    try:
        with block():
            send(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert received == [signal.SIGTERM]


@pytest.mark.parametrize("block", [sigterm_as_exit, sigterm_as_interrupt])
def test_other_threads_than_the_main_one_set_no_handler(block) -> None:
    handlers = []

    def work() -> None:
        with block():
            handlers.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert handlers == [before]
