"""Command lines of the steps: options for the settings, and errors as one sentence with an exit status."""

import errno
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.exceptions import TyperException

from audiocnn.errors import AudioCNNError
from mlops.settings import ResolvedSettings, parse_overrides, resolve

ParamsOption = Annotated[Path, typer.Option("--params", metavar="FILE", help="The settings file.")]
SetOption = Annotated[
    list[str],
    typer.Option("--set", metavar="KEY=VALUE", help="Override one key, for example train.epochs=3. Repeatable."),
]
REMEDIES = {  # for errors whose usual message does not say how to fix them
    errno.ENOSPC: "the disk is full; free some space and run the command again",
    errno.EDQUOT: "the disk quota is exceeded; free some space and run the command again",
    errno.EFBIG: "the file is too large for the file system or for ulimit -f; raise the limit, or choose another place",
    errno.EEXIST: "already exists and is not empty; choose another place, or remove it",
    errno.EXDEV: "a mount point cannot be replaced; choose a folder in it",
    errno.EBUSY: "in use, or a mount point, and cannot be replaced; choose a folder in it",
}


def resolve_options(path: Path, assignments: list[str]) -> ResolvedSettings:
    return resolve(path, parse_overrides(assignments))


@contextmanager
def errors_to_exit() -> Iterator[None]:
    """Print an error that a user can fix as `error: one sentence` and exit with status 2, after Ctrl-C with 130.

    These are AudioCNNError and OSError; other exceptions are bugs and keep their traceback.
    """
    try:
        yield
    except KeyboardInterrupt:
        print("interrupted; incomplete output was removed", file=sys.stderr)
        raise typer.Exit(130) from None
    except (AudioCNNError, OSError) as error:
        print(f"error: {os_error_message(error) if isinstance(error, OSError) else error}", file=sys.stderr)
        raise typer.Exit(2) from None


def run(function: Callable[..., None]) -> None:
    """Run a function as the command line of this process; see errors_to_exit."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(errors_to_exit()(function))
    call_command(typer.main.get_command(app).main)


def call_command(main: Callable[..., Any], *args: Any, **options: Any) -> None:
    """Call a command's `main` and exit; wrong options and arguments are reported like all errors, with status 2."""
    try:
        sys.exit(main(*args, **{**options, "standalone_mode": False}))
    except TyperException as error:
        if message := error.format_message():  # empty without arguments: then the help was printed
            context = getattr(error, "ctx", None)
            hint = f"; see `{context.command_path} --help`" if context else ""
            # The words that pydantic puts before a sentence.
            message = message.rstrip(".").replace(": Input should", ": should").replace(": Value error, ", ": ")
            print(f"error: {message}{hint}", file=sys.stderr)
        sys.exit(2)


def os_error_message(error: OSError) -> str:
    """Return the path, the reason and how to fix it, as far as they are known."""
    if error.errno is None or not error.strerror:  # raised by a library, with a message of its own
        return str(error)
    reason = REMEDIES.get(error.errno, error.strerror)
    return reason if error.filename is None else f"{error.filename}: {reason}"
