"""The command status: the champion, what waits for approval, what is served, and whether they agree."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import typer

from pipeline.cli.history import describe
from pipeline.cli.options import PARAMS, JsonOption, ParamsOption, SetOption, load_settings, print_json

if TYPE_CHECKING:
    from mlops.tracking import Records, Version
    from mlops.tracking.history import Entry
    from pipeline.settings import PipelineSettings
    from serving.torchserve.client import TorchServeClient

CHANGES = 3  # entries of the history that are shown


@dataclass(frozen=True)
class VersionState:
    """A version and the decision on it, with its reasons; `validation_status` says what a person made of it."""

    version: int
    decision: str
    validation_status: str
    reasons: list[str]


@dataclass(frozen=True)
class Replica:
    """A TorchServe: the version that it serves, or why it does not respond."""

    url: str
    health: str
    version: int | None
    error: str


@dataclass(frozen=True)
class Status:
    """What `audiocnn status` shows.

    Attributes:
        audit: the champion's accuracy on the audit fold, in words; no decision uses it.
        challenger: the newest version.
        waiting: numbers of the versions that wait for approval.
        gateway: its address, and whether it answers with the model.
        history: the last changes, oldest first.
        problems: what does not agree or is damaged, a sentence each.
    """

    model: str
    champion: VersionState | None
    audit: str
    challenger: VersionState | None
    waiting: list[int]
    gateway: str
    endpoint: list[Replica]
    history: list["Entry"]
    problems: list[str]


def status(
    params: ParamsOption = PARAMS,
    set_: SetOption = [],  # noqa: B006  typer copies it
    json_: JsonOption = False,
) -> None:
    """Show the champion, what waits and what is served; exit with 1 if they do not agree."""
    found = collect(load_settings(params, set_))
    if json_:
        print_json(asdict(found))
    else:
        typer.echo(render(found))
    if found.problems:
        raise typer.Exit(1)


def collect(settings: "PipelineSettings") -> Status:
    """Ask MLflow and TorchServe."""
    from components.register.step import CHALLENGER
    from mlops import tracking
    from mlops.tracking import history
    from pipeline.checks.services import check_gateway

    name = settings.register.name
    champion, challenger = (tracking.version_by_alias(name, alias) for alias in (tracking.CHAMPION, CHALLENGER))
    records = tracking.Records() if champion is None else tracking.read_records(champion)
    audit = records.registration and records.registration.audit
    endpoint = _endpoint(settings)
    pending = tracking.versions_with_tag(name, tracking.STATUS_TAG, "pending")
    return Status(
        model=name,
        champion=None if champion is None else _state(champion, records),
        audit=audit.summary() if audit else "",
        challenger=None if challenger is None else _state(challenger, tracking.read_records(challenger)),
        waiting=sorted(version.number for version in pending if version.tags.get("decision") == "wait"),
        gateway=check_gateway(settings)[0].message,
        endpoint=endpoint,
        history=history.entries(name)[-CHANGES:],
        problems=[*_disagreements(name, champion, endpoint), *history.verify(name)],
    )


def _state(version: "Version", records: "Records") -> VersionState:
    from mlops.tracking import STATUS_TAG

    status = version.tags.get(STATUS_TAG, "")
    if records.decision is None:
        return VersionState(version.number, version.tags.get("decision", ""), status, [])
    return VersionState(version.number, records.decision.outcome, status, list(records.decision.reasons))


def _endpoint(settings: "PipelineSettings") -> list[Replica]:
    from serving.torchserve.client import ServingError
    from serving.torchserve.replicas import find_replicas

    try:
        replicas = find_replicas(settings.deploy.in_this_environment())
    except ServingError as error:
        return [Replica(settings.deploy.management, "", None, str(error))]
    return [_replica(client, settings.register.name) for client in replicas]


def _replica(client: "TorchServeClient", name: str) -> Replica:
    from serving.torchserve.client import ServingError, from_served_version

    url = client.prediction_url(name)
    try:
        return Replica(url, client.health(), from_served_version(client.default_version(name) or ""), "")
    except ServingError as error:
        return Replica(url, "", None, str(error))


def _disagreements(name: str, champion: "Version | None", endpoint: list[Replica]) -> list[str]:
    """Return where the champion is not served, and an alias that was moved outside audiocnn."""
    from mlops.tracking.outside_changes import find_alias_move

    problems = []
    move = find_alias_move(name)
    if move is not None and (objection := move.objection()):  # `audiocnn deploy` would refuse this version
        return [f"{objection}; `audiocnn reconcile` moves the alias champion back"]
    if move is not None and not move.is_recorded:
        what = f"moved to version {move.version.number}" if move.version else "removed"
        problems.append(f"the alias champion was {what} outside audiocnn; `audiocnn reconcile` records it")
    if champion is not None and any(replica.version != champion.number for replica in endpoint):
        problems.append(f"the champion, version {champion.number}, is not served everywhere; run `audiocnn deploy`")
    return problems


def render(found: Status) -> str:
    same = found.challenger is not None and found.challenger == found.champion
    rows = {
        "model": [found.model],
        "champion": [*_version_lines(found.champion), *([f"  accuracy {found.audit}"] if found.audit else [])],
        "challenger": ["the champion is the newest version"] if same else _version_lines(found.challenger),
        "waiting": [f"version {number}: `audiocnn approve {number}`" for number in found.waiting],
        "gateway": [found.gateway],
        "TorchServe": [_replica_line(replica) for replica in found.endpoint],
        "problem": found.problems,
        "history": [f"{entry.at}  {describe(entry)}" for entry in found.history],
    }
    return "\n".join(f"{label:<12}" + f"\n{'':12}".join(lines) for label, lines in rows.items() if lines)


def _version_lines(version: VersionState | None) -> list[str]:
    if version is None:
        return ["none"]
    return [f"version {version.version}: {_outcome(version)}", *(f"  {reason}" for reason in version.reasons)]


def _outcome(version: VersionState) -> str:
    """Return the decision of the step promote, and what a person made of it."""
    from mlops.artifacts import OUTCOMES

    decided = OUTCOMES.get(version.decision, version.decision or "no decision")
    if version.decision == "wait":
        return {"approved": "approved by a person", "rejected": "not approved"}.get(version.validation_status, decided)
    overruled = version.decision != "promote" and version.validation_status == "approved"
    return f"{decided}, but approved by a person" if overruled else decided


def _replica_line(replica: Replica) -> str:
    if replica.error:
        return replica.error
    return (
        f"{replica.url}: {replica.health}, serves {f'version {replica.version}' if replica.version else 'no version'}"
    )
