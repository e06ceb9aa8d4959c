"""Bring the registry and TorchServe into agreement after changes that were made in MLflow's pages."""

from pathlib import Path

from components.deploy.champion_change import ChampionChangeError, become_champion
from components.deploy.settings import DeploySettings
from components.deploy.step import Start, deploy
from mlops import tracking
from mlops.tracking import champion, history, outside_changes
from mlops.tracking.manifest import DamagedVersionError
from serving.torchserve import server as torchserve
from serving.torchserve.client import ServingError, from_served_version
from serving.torchserve.replicas import find_replicas


def reconcile(name: str, settings: DeploySettings, output: Path, start: Start = torchserve.started) -> None:
    """Handle a moved alias, serve the champion, and handle new approvals.

    A move of the alias is recorded. It is reverted if the version was refused and has no reason in its tag
    `override_reason`, or if its files are damaged. A version whose tag `validation_status` was set to `approved`
    becomes the champion under the conditions of `audiocnn approve`.

    Raises:
        AudioCNNError: MLflow or TorchServe does not respond, or a version cannot be served; the next call tries again.
    """
    _handle_alias(name)
    holder = tracking.version_by_alias(name, tracking.CHAMPION)
    if holder is not None and not _is_served(holder, settings.in_this_environment()):
        deploy(name, None, settings, output, start)
    for version in outside_changes.newly_approved(name):
        _handle_approval(version, settings, output, start)


def _handle_alias(name: str) -> None:
    move = outside_changes.find_alias_move(name)
    if move is None:
        return
    if move.version is None:
        if not move.is_recorded:
            move.accept()
            _print(
                f"the alias {tracking.CHAMPION} of {name} was removed outside audiocnn; `audiocnn rollback` restores it"
            )
    elif objection := move.objection():
        back = f"moved back to version {move.before}" if move.before else "removed"
        _print(f"the alias {tracking.CHAMPION} is {back}: {objection}")
        move.revert(objection)
    elif not move.is_recorded:
        move.accept()
        _print(f"{move.version} became the champion outside audiocnn; this is recorded")


def _handle_approval(version: tracking.Version, settings: DeploySettings, output: Path, start: Start) -> None:
    objection, because = champion.objection(version), version.tags.get(champion.OVERRIDE, "").strip()
    if objection and not because:
        tracking.tag_version(version.name, version.number, {tracking.STATUS_TAG: "rejected"})
        _print(
            f"the approval of {version} is rejected: it {objection}; to overrule this, add the tag {champion.OVERRIDE} "
            "with a reason and approve it again"
        )
        return

    def move() -> None:
        champion.move(version.name, version.number, kind="approve", by=history.OUTSIDE, because=because)

    try:
        become_champion(version, move, settings, output, start)
    except ChampionChangeError as error:
        if isinstance(error.__cause__, DamagedVersionError):
            tracking.tag_version(version.name, version.number, {tracking.STATUS_TAG: "rejected"})
        raise
    _print(f"{version} was approved in MLflow and is the champion now")


def _is_served(version: tracking.Version, settings: DeploySettings) -> bool:
    try:
        served = [client.default_version(version.name) for client in find_replicas(settings)]
    except ServingError:
        return False
    return all(each is not None and from_served_version(each) == version.number for each in served)


def _print(message: str) -> None:
    print(f"[reconcile] {message}", flush=True)
