"""Options that commands share, and how their errors become an exit status."""

import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from components.ingest import SOURCES
from mlops.command_line import ParamsOption, SetOption, call_command, errors_to_exit
from mlops.runtime import sigterm_as_interrupt
from mlops.settings import PARAMS
from pipeline.run_folders import RunError

if TYPE_CHECKING:
    from pipeline.settings import PipelineSettings
__all__ = ["PARAMS", "SOURCES", "ParamsOption", "SetOption"]  # others import them from here

ENDPOINT_BLOCKS = ("deploy.", "gateway.", "register.")  # settings that determine the endpoint

SourceOption = Annotated[str, typer.Option(metavar="SOURCE", help=f"{SOURCES}.")]
SeedsOption = Annotated[
    int, typer.Option(min=1, max=100, metavar="N", help="Number of trainings per fold, with seeds from train.seed on.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


class Commands(TyperGroup):
    """A group of commands that reports wrong options and arguments like all errors: one sentence, and status 2."""

    def main(self, *args: Any, **options: Any) -> None:
        call_command(super().main, *args, **options)


@contextmanager
def handle_errors() -> Iterator[None]:
    """Print errors as one sentence and exit: 2 for errors that the user can fix, 1 for a bug in a step.

    Ctrl-C, SIGTERM and SIGHUP: 130.
    """
    with errors_to_exit(), sigterm_as_interrupt():
        try:
            yield
        except RunError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(error.status) from None


def load_settings(path: Path, assignments: list[str]) -> "PipelineSettings":
    from mlops.settings import parse_overrides
    from pipeline.settings import load

    return load(path, parse_overrides(assignments))


@dataclass(frozen=True)
class EndpointOptions:
    """The options of a command that determine which endpoint it addresses."""

    params: Path = PARAMS
    assignments: Sequence[str] = ()

    def text(self, *keys: str) -> str:
        """Return those that another command needs to address the same endpoint, with a leading space.

        Args:
            keys: beginnings of the keys that this command reads, by default of all blocks of the endpoint.
        """
        words = [] if self.params == PARAMS else ["--params", str(self.params)]
        for assignment in self.assignments:
            if assignment.strip().startswith(keys or ENDPOINT_BLOCKS):
                words += ["--set", assignment]
        return "".join(f" {quote(word)}" for word in words)


def command_name() -> str:
    """Return how to call this command from the working directory."""
    script = Path(sys.executable).with_name("audiocnn")
    found = shutil.which("audiocnn")
    return "audiocnn" if found and Path(found).resolve() == script.resolve() else quote(relative_path(script))


def relative_path(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


@contextmanager
def output_on_stderr() -> Iterator[None]:
    """Send what the block prints to standard error, so that standard output has nothing but JSON."""
    # A copy: while a step runs, the file descriptor 2 is its log.
    with os.fdopen(os.dup(2), "w", buffering=1, encoding="utf-8") as stream, redirect_stdout(stream):
        yield
