"""The commands classify and key: requests to the endpoint."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audiocnn.errors import AudioCNNError
from pipeline.cli.options import PARAMS, ParamsOption, SetOption, command_name, load_settings

if TYPE_CHECKING:
    from rich.table import Table

    from pipeline.settings import PipelineSettings

BAR = 30  # characters of a bar of 100 %


class EndpointError(AudioCNNError):
    """Files that could not be classified."""


def classify(
    files: Annotated[list[Path], typer.Argument(help="Sound files: WAV, FLAC, Ogg, MP3, AIFF.")],
    params: ParamsOption = PARAMS,
    set_: SetOption = [],  # noqa: B006  typer copies it
) -> None:
    """Classify files with the running endpoint; those that it refuses are listed at the end."""
    from rich.console import Console

    for table in classify_files(files, load_settings(params, set_)):
        Console().print(table, soft_wrap=True)


def key(
    state: Annotated[Path | None, typer.Argument(help="TorchServe's state folder; by default deploy.state.")] = None,
    params: ParamsOption = PARAMS,
    set_: SetOption = [],  # noqa: B006
) -> None:
    """Print the endpoint's key, for curl -H "Authorization: Bearer $(audiocnn key)" -T FILE URL."""
    from serving.torchserve.server import inference_key

    typer.echo(inference_key(state or Path(load_settings(params, set_).deploy.state)))


def classify_files(files: Iterable[Path], settings: "PipelineSettings") -> Iterator["Table"]:
    """Yield the endpoint's answer to each file; at the end, raise EndpointError naming the refused ones."""
    from serving.torchserve.client import ServingError, TorchServeClient

    server, refused = TorchServeClient.from_settings(settings.deploy), []
    for file in files:
        try:
            yield answer_table(server.predict(file.read_bytes(), settings.register.name), str(file))
        except OSError as error:
            refused.append(f"{file}: {error.strerror}")
        except ServingError as error:
            if not error.status:  # no answer at all
                raise
            refused.append(f"{file}: {error}")
    if refused:
        raise EndpointError("\n".join(refused))


def answer_table(answer: Mapping[str, Any], title: str) -> "Table":
    """Return an answer of the endpoint, one row for each class, most likely first."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title, no_wrap=True), title_justify="left", show_header=False, box=None)
    for item in answer["predictions"]:
        probability = item["probability"]
        bar = "█" * round(probability * BAR)
        table.add_row(Text(item["class"]), Text(f"{probability:6.1%}"), Text(bar, style="green"))
    return table


def curl_command(clip: str, settings: "PipelineSettings") -> str:
    """Return a shell command that sends a clip to the endpoint; it reads the key instead of containing it."""
    from serving.torchserve.client import TorchServeClient

    url = TorchServeClient.from_settings(settings.deploy).prediction_url(settings.register.name)
    key = f"{command_name()} key {quote(settings.deploy.state)}"
    return f'curl -sS -H "Authorization: Bearer $({key})" -T {quote(clip)} {url}'
