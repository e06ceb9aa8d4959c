"""Signals raise an exception, so that a step cleans up."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SIGTERM_STATUS = 128 + signal.SIGTERM


@contextmanager
def sigterm_as_exit() -> Iterator[None]:
    """Let SIGTERM, the signal of kubelet, `timeout` and `kill`, raise SystemExit with status 143."""
    with _raise_on((signal.SIGTERM,), lambda: SystemExit(SIGTERM_STATUS)):
        yield


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise KeyboardInterrupt, like Ctrl-C."""
    with _raise_on((signal.SIGTERM, signal.SIGHUP), KeyboardInterrupt):
        yield


@contextmanager
def _raise_on(numbers: tuple[signal.Signals, ...], make_error: Callable[[], BaseException]) -> Iterator[None]:
    """Raise an exception on the first of these signals, and ignore the others during the clean-up.

    Signals that are already handled, or ignored as under nohup, are left unchanged. Only the main thread can set
    handlers.
    """
    main = threading.current_thread() is threading.main_thread()
    replaced = [number for number in numbers if main and signal.getsignal(number) == signal.SIG_DFL]

    def handle(*_: object) -> None:
        for number in replaced:
            signal.signal(number, signal.SIG_IGN)
        raise make_error()

    for number in replaced:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number in replaced:
            signal.signal(number, signal.SIG_DFL)
