"""The command key, and the curl command for a request to the endpoint."""

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.options import PARAMS, ParamsOption, SetOption, command_name, load_settings

if TYPE_CHECKING:
    from pipeline.settings import PipelineSettings


def key(
    state: Annotated[Path | None, typer.Argument(help="TorchServe's state folder; by default deploy.state.")] = None,
    params: ParamsOption = PARAMS,
    set_: SetOption = [],  # noqa: B006
) -> None:
    """Print the endpoint's key, for curl -H "Authorization: Bearer $(audiocnn key)" -T FILE URL."""
    from serving.torchserve.server import inference_key

    typer.echo(inference_key(state or Path(load_settings(params, set_).deploy.state)))


def curl_command(clip: str, settings: "PipelineSettings") -> str:
    """Return a shell command that sends a clip to the endpoint; it reads the key instead of containing it."""
    from serving.torchserve.client import TorchServeClient

    url = TorchServeClient.from_settings(settings.deploy).prediction_url(settings.register.name)
    key = f"{command_name()} key {quote(settings.deploy.state)}"
    return f'curl -sS -H "Authorization: Bearer $({key})" -T {quote(clip)} {url}'
