"""The endpoint as people meet it: a line for the shell, an answer as a table."""

import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import Any

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from audiocnn.errors import AudioCNNError
from pipeline.settings import PipelineSettings
from serving.torchserve.client import ServingError, TorchServe

NAMES = ("deploy.", "register.")  # the settings that say which endpoint is meant
BAR = 30  # characters of a bar that stands for 100 %


class EndpointError(AudioCNNError):
    """Files to which there is no answer."""


def curl(clip: str, settings: PipelineSettings) -> str:
    """A line for the shell that asks the endpoint; the key is fetched, not shown."""
    url = TorchServe.of(settings.deploy).url(settings.register.name)
    key = f"{command()} key {quote(settings.deploy.state)}"
    return f'curl -sS -H "Authorization: Bearer $({key})" -T {quote(clip)} {url}'


def command() -> str:
    """How this command line is called from the working folder."""
    script = Path(sys.executable).with_name("audiocnn")
    found = shutil.which("audiocnn")
    return "audiocnn" if found and Path(found).resolve() == script.resolve() else quote(near(script))


def options(params: Path, assignments: Sequence[str]) -> str:
    """What a further command has to be given so that it means the same endpoint as one with these options."""
    words = [] if params == Path("params.yaml") else ["--params", str(params)]
    for assignment in assignments:
        if assignment.strip().startswith(NAMES):
            words += ["--set", assignment]
    return "".join(f" {quote(word)}" for word in words)


def ask(file: Path, settings: PipelineSettings) -> Table:
    """The endpoint's answer to a file.

    Raises:
        ServingError: it refuses the file, which is named, or does not answer.
    """
    content = file.read_bytes()
    try:
        return table(TorchServe.of(settings.deploy).predict(content, settings.register.name), str(file))
    except ServingError as error:
        if not error.status:
            raise
        raise ServingError(f"{file}: {error}", error.status) from error


def ask_all(files: Iterable[Path], settings: PipelineSettings) -> Iterator[Table]:
    """The endpoint's answer to each file that it takes; in the end an error names the others.

    Raises:
        EndpointError: files that cannot be read, or that the endpoint refuses.
        ServingError: it does not answer.
    """
    refused = []
    for file in files:
        try:
            yield ask(file, settings)
        except OSError as error:
            refused.append(f"{file}: {error.strerror}")
        except ServingError as error:
            if not error.status:
                raise
            refused.append(str(error))
    if refused:
        raise EndpointError("\n".join(refused))


def table(answer: Mapping[str, Any], title: str) -> Table:
    """An answer of the endpoint, a line a class, the likeliest first."""
    shown = Table(title=escape(title), title_justify="left", show_header=False, box=None)
    for item in answer["predictions"]:
        probability = item["probability"]
        bar = "█" * round(probability * BAR)
        shown.add_row(Text(item["class"]), Text(f"{probability:6.1%}"), Text(bar, style="green"))
    return shown


def near(path: Path) -> str:
    """A path as it is typed in the working folder."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
