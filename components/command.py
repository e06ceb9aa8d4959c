"""What the steps' command lines share: where params.yaml is, how keys are overridden, how errors reach a person."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from audiocnn import params
from audiocnn.errors import AudioCNNError

ParamsOption = Annotated[Path, typer.Option("--params", help="The settings file.")]
SetOption = Annotated[
    list[str], typer.Option("--set", help="Override one key, for example train.epochs=3. Repeatable.")
]


def load_params(path: Path, assignments: list[str]) -> params.Params:
    """params.yaml with the command line's overrides."""
    return params.load(path, params.override(assignments))


@contextmanager
def errors_to_exit() -> Iterator[None]:
    """End with `error: one sentence` and status 2 for what a user can mend, 130 for Ctrl-C; bugs keep their traceback.

    AudioCNNError is the base of all that the rooms raise for bad input; OSError tells of files and sockets.
    """
    try:
        yield
    except KeyboardInterrupt:
        print("interrupted; nothing half-written is left", file=sys.stderr)
        raise typer.Exit(130) from None
    except (AudioCNNError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(2) from None


@contextmanager
def terminable() -> Iterator[None]:
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
