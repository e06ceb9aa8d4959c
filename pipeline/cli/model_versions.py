"""The commands deploy, approve, rollback and reconcile: the registry's champion, and that TorchServe serves it."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from audiocnn.errors import AudioCNNError
from mlops.command_line import os_error_message
from pipeline.cli.options import PARAMS, ParamsOption, SetOption, load_settings

if TYPE_CHECKING:
    from pipeline.settings import PipelineSettings

DEPLOYMENT = Path("var/deployment")


def deploy(params: ParamsOption = PARAMS, set_: SetOption = []) -> None:  # noqa: B006  typer copies it
    """Make TorchServe serve the registry's champion; start `audiocnn serve` in the background if it does not run."""
    from components.deploy.step import deploy as run_step
    from pipeline.endpoint import endpoint_start

    settings = load_settings(params, set_)
    run_step(settings.register.name, None, settings.deploy, DEPLOYMENT, endpoint_start(settings))


def approve(
    version: Annotated[int, typer.Argument(help="Version of the model in the registry.")],
    because: Annotated[str, typer.Option(help="Reason, which is recorded; needed for a refused version.")] = "",
    params: ParamsOption = PARAMS,
    set_: SetOption = [],  # noqa: B006
) -> None:
    """Test a version that waits for approval, or was refused, beside the served one; then make it the champion."""
    from components.deploy.champion_change import approve as run
    from pipeline.endpoint import endpoint_start

    settings = _checked_settings(params, set_)
    run(settings.register.name, version, because, settings.deploy, DEPLOYMENT, endpoint_start(settings))
    typer.echo(f"{settings.register.name} version {version} is the champion now.")


def rollback(
    to: Annotated[
        int | None, typer.Option(metavar="VERSION", help="A former champion; by default the one before the present.")
    ] = None,
    params: ParamsOption = PARAMS,
    set_: SetOption = [],  # noqa: B006
) -> None:
    """Test the previous champion beside the served version; then make it the champion again."""
    from components.deploy.champion_change import rollback as run
    from pipeline.endpoint import endpoint_start

    settings = _checked_settings(params, set_)
    record = run(settings.register.name, to, settings.deploy, DEPLOYMENT, endpoint_start(settings))
    typer.echo(f"{settings.register.name} version {record.version} is the champion again.")


def reconcile(
    watch: Annotated[bool, typer.Option("--watch", help="Repeat until Ctrl-C.")] = False,
    interval: Annotated[float, typer.Option(min=0.1, metavar="SECONDS", help="Pause between two passes.")] = 5.0,
    params: ParamsOption = PARAMS,
    set_: SetOption = [],  # noqa: B006
) -> None:
    """Deploy what was approved in MLflow's pages, and move the alias champion back from a refused version."""
    settings = load_settings(params, set_)
    if not watch:
        _reconcile(settings)
        return
    problem = ""
    while True:
        try:
            _reconcile(settings)
            found = ""
        except AudioCNNError as error:
            found = str(error)
        except OSError as error:
            found = os_error_message(error)
        if found and found != problem:  # not one line for each pass of an outage
            typer.echo(f"[reconcile] {found}", err=True)
        problem = found
        time.sleep(interval)


def _reconcile(settings: "PipelineSettings") -> None:
    from components.deploy.reconcile import reconcile as run
    from pipeline.endpoint import endpoint_start

    run(settings.register.name, settings.deploy, DEPLOYMENT, endpoint_start(settings))


def _checked_settings(params: Path, assignments: list[str]) -> "PipelineSettings":
    """Return the settings after a check that TorchServe and the gateway can be started if they have to be."""
    from pipeline.cli import servers

    settings = load_settings(params, assignments)
    servers.check_deploy(settings)
    return settings
