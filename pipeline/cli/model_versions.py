"""The commands status, deploy, approve and rollback: the registry's champion and the version that is served."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.options import PARAMS, ParamsOption, SetOption, load_settings

if TYPE_CHECKING:
    from rich.table import Table

    from mlops.tracking import Version
    from pipeline.settings import PipelineSettings

DEPLOYMENT = Path("var/deployment")
MOVES = 3  # changes of the champion that status shows


def status(
    params: ParamsOption = PARAMS,
    set_: SetOption = [],  # noqa: B006  typer copies it
    history: Annotated[
        bool, typer.Option("--history", help=f"Show all changes of the champion, not the last {MOVES}.")
    ] = False,
) -> None:
    """Show the champion, the challenger (newest version) and the version that is served."""
    from rich.console import Console

    Console().print(overview(load_settings(params, set_), history), soft_wrap=True)


def deploy(params: ParamsOption = PARAMS, set_: SetOption = []) -> None:  # noqa: B006
    """Make TorchServe serve the registry's champion; start a TorchServe if none is running."""
    deploy_champion(load_settings(params, set_))


def approve(
    version: Annotated[int, typer.Argument(help="Version of the model in the registry.")],
    because: Annotated[str, typer.Option(help="Reason for overruling the decision; it is recorded.")] = "",
    params: ParamsOption = PARAMS,
    set_: SetOption = [],  # noqa: B006
) -> None:
    """Make a version that waits for approval, or was refused, the champion, and deploy it."""
    from mlops.tracking import champion
    from pipeline.cli import servers

    settings = load_settings(params, set_)
    servers.check_deploy(settings.deploy)
    champion.approve(settings.register.name, version, because=because)
    typer.echo(f"{settings.register.name} version {version} is the champion now.")
    deploy_champion(settings)


def rollback(params: ParamsOption = PARAMS, set_: SetOption = []) -> None:  # noqa: B006
    """Make the previous champion the champion again, and deploy it."""
    from mlops.tracking import champion
    from pipeline.cli import servers

    settings = load_settings(params, set_)
    servers.check_deploy(settings.deploy)
    version = champion.rollback(settings.register.name)
    typer.echo(f"{settings.register.name} version {version.number} is the champion again.")
    deploy_champion(settings)


def deploy_champion(settings: "PipelineSettings") -> None:
    """Run the step deploy, with a tone as the smoke test."""
    from components.deploy.step import deploy as run_step

    run_step(settings.register.name, None, settings.deploy, DEPLOYMENT)


def overview(settings: "PipelineSettings", every_move: bool = False) -> "Table":
    """Return the aliases, the last changes of the champion, and the state of the endpoint."""
    from rich.table import Table
    from rich.text import Text

    from components.register.step import CHALLENGER
    from mlops import tracking
    from mlops.tracking.champion import CHAMPION, history
    from serving.torchserve.client import ServingError, TorchServeClient

    name = settings.register.name
    table = Table(title=f"Model {name}", title_justify="left", show_header=False, box=None)
    for alias in (CHAMPION, CHALLENGER):
        table.add_row(alias, Text(_describe(tracking.version_by_alias(name, alias))))
    server = TorchServeClient.from_settings(settings.deploy)
    try:
        served = server.default_version(name) or "no version"
        state = f"{server.prediction_url(name)}: {server.health()}, serves {served}"
    except ServingError as error:
        state = str(error)
    table.add_row("endpoint", Text(state))
    moves = history(name)
    shown = moves if every_move else moves[-MOVES:]
    for number, move in enumerate(shown):
        label = "changes of the champion" if number == 0 else ""
        table.add_row(label, Text(f"{move.at}  {move.kind} to version {move.to}, by {move.by}"))
    if len(shown) < len(moves):
        table.add_row("", Text(f"the last {MOVES} of {len(moves)}; --history shows all"))
    return table


def _describe(version: "Version | None") -> str:
    if version is None:
        return "none"
    decision = version.tags.get("decision", "no decision")
    reasons = version.tags.get("decision_reasons", "")
    text = f"version {version.number}: {decision}" + (f" ({reasons})" if reasons else "")
    approved, decided = (version.tags.get(key, "") for key in ("approved_at", "decision_at"))
    if approved and approved >= decided:  # UTC in ISO 8601 sorts as text; a later decision replaces the approval
        text += f"; approved {approved} by {version.tags['approved_by']}: {version.tags['approved_because']}"
    return text
