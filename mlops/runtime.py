"""Signals that end a step: each leaves it as an exception, so that nothing half-written stays."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGTERM_STATUS = 128 + signal.SIGTERM


@contextmanager
def sigterm_as_exit() -> Iterator[None]:
    """Within the block SIGTERM, with which a kubelet, `timeout` and `kill` end a process, is an exit with status 143.

    Only the main thread can see to that; whoever has set a handler already keeps it.
    """

    def leave(_number: int, _frame: FrameType | None) -> None:
        raise SystemExit(SIGTERM_STATUS)

    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def defer_signals() -> Iterator[None]:
    """Within the block Ctrl-C and SIGTERM wait for its end: for calls of C libraries that call Python back.

    An exception in such a callback is printed and forgotten, and the library takes it for the end of the file.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: came.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """Treat `kill` and a closed terminal like Ctrl-C: what tidies up after the one does so after the others."""

    def interrupted(*_: object) -> None:
        for number in before:  # both may come, and the second must not cut off the tidying up
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    main = threading.current_thread() is threading.main_thread()  # no other may set handlers
    numbers = (signal.SIGTERM, signal.SIGHUP) if main else ()
    before = {number: signal.getsignal(number) for number in numbers}
    before = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}  # as under nohup
    for number in before:
        signal.signal(number, interrupted)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
