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
    """Print TorchServe's key, for curl -H "Authorization: Bearer $(audiocnn key)". The gateway does not accept it."""
    from serving.torchserve.server import inference_key

    typer.echo(inference_key(state or Path(load_settings(params, set_).deploy.state)))


def open_gateway(settings: "PipelineSettings") -> str:
    """Return the address of the gateway that a deployment starts; empty if there is none, or if it wants a key."""
    from serving.gateway.authentication import configured_keys

    if not settings.deploy.in_this_environment().start or configured_keys(settings.gateway):
        return ""
    return settings.gateway.url


def curl_command(clip: str, settings: "PipelineSettings") -> str:
    """Return a shell command that sends a clip to the gateway.

    If the gateway wants a key or does not run on this machine, the clip is sent to TorchServe, whose key the command
    reads instead of containing it.
    """
    from serving.torchserve.client import TorchServeClient

    if url := open_gateway(settings):
        return f"curl -sSg -T {quote(clip)} {url}/classify"  # -g: brackets in a name mean themselves
    url = TorchServeClient.from_settings(settings.deploy).prediction_url(settings.register.name)
    key = f"{command_name()} key {quote(settings.deploy.state)}"
    return f'curl -sSg -H "Authorization: Bearer $({key})" -T {quote(clip)} {url}'
