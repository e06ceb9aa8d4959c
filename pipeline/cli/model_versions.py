"""The commands status, deploy, approve and rollback: the registry's champion and the version that is served."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.options import PARAMS, ParamsOption, SetOption, load_settings

if TYPE_CHECKING:
    from mlops.tracking import Version
    from pipeline.settings import PipelineSettings
    from serving.torchserve.client import TorchServeClient

DEPLOYMENT = Path("var/deployment")
MOVES = 3  # changes of the champion that status shows
OUTCOMES = {
    "promote": "promoted",
    "keep": "no difference to the champion was found",
    "refuse": "refused",
    "wait": "waits for approval",
}


def status(
    params: ParamsOption = PARAMS,
    set_: SetOption = [],  # noqa: B006  typer copies it
    history: Annotated[
        bool, typer.Option("--history", help=f"Show all changes of the champion, not the last {MOVES}.")
    ] = False,
) -> None:
    """Show the champion, the challenger (newest version), what is served, and the champion's history."""
    typer.echo(overview(load_settings(params, set_), history))


def deploy(params: ParamsOption = PARAMS, set_: SetOption = []) -> None:  # noqa: B006
    """Make TorchServe serve the registry's champion; start a TorchServe if none is running."""
    deploy_champion(load_settings(params, set_))


def approve(
    version: Annotated[int, typer.Argument(help="Version of the model in the registry.")],
    because: Annotated[str, typer.Option(help="Reason, which is recorded; needed for a refused version.")] = "",
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


def overview(settings: "PipelineSettings", every_move: bool = False) -> str:
    """Return the aliases, the state of the endpoint, and the last changes of the champion, one fact on a line."""
    from components.register.step import CHALLENGER
    from mlops import tracking
    from mlops.tracking import history
    from mlops.tracking.champion import CHAMPION

    name = settings.register.name
    champion, challenger = (tracking.version_by_alias(name, alias) for alias in (CHAMPION, CHALLENGER))
    newest = "the champion is the newest version" if challenger and challenger == champion else None
    moves = history.entries(name)
    shown = moves if every_move else moves[-MOVES:]
    changes = [f"{move.at}  {move.kind} to version {move.version_to}, by {move.by}" for move in shown]
    if len(shown) < len(moves):
        changes.append(f"the last {MOVES} of {len(moves)}; --history shows all")
    rows = {
        "model": [name],
        CHAMPION: [*_describe(champion), *_audit(champion)],
        CHALLENGER: [newest] if newest else _describe(challenger),
        "endpoint": _describe_endpoint(settings, champion.number if champion else None),
        "history": changes,
    }
    return "\n".join(f"{label:<12}" + f"\n{'':12}".join(lines) for label, lines in rows.items() if lines)


def _describe(version: "Version | None") -> list[str]:
    """Return the version with its decision, then one line for each reason."""
    from mlops.tracking.champion import decision_reasons

    if version is None:
        return ["none"]
    decision = version.tags.get("decision", "")
    lines = [f"version {version.number}: {OUTCOMES.get(decision, decision or 'no decision')}"]
    lines += [f"  {reason}" for reason in decision_reasons(version)]
    return lines


def _audit(version: "Version | None") -> list[str]:
    """Return the accuracy on the audit fold, if there is one, in one line."""
    from mlops.tracking import read_records

    registration = read_records(version).registration if version else None
    audit = registration.audit if registration else None
    return [f"  accuracy {audit.summary()}, which no decision uses"] if audit else []


def _describe_endpoint(settings: "PipelineSettings", champion: int | None) -> list[str]:
    """Return one line for each replica of TorchServe, and the remedy if one does not serve the champion."""
    from serving.torchserve.client import ServingError
    from serving.torchserve.replicas import find_replicas

    try:
        replicas = find_replicas(settings.deploy.in_this_environment())
    except ServingError as error:
        return [str(error)]
    described = [_describe_replica(client, settings.register.name) for client in replicas]
    lines = [line for line, _ in described]
    if champion is not None and any(served != champion for _, served in described):
        lines.append(f"the champion, version {champion}, is not served everywhere; run `audiocnn deploy`")
    return lines


def _describe_replica(client: "TorchServeClient", name: str) -> tuple[str, int | None]:
    """Return the state of a TorchServe, and the version that it serves."""
    from serving.torchserve.client import ServingError, from_served_version

    try:
        served = from_served_version(client.default_version(name) or "")
        version = f"version {served}" if served else "no version"
        return f"{client.prediction_url(name)}: {client.health()}, serves {version}", served
    except ServingError as error:
        return str(error), None
