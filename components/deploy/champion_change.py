"""Change the champion: load, verify, register and test the new one first, then move the alias and switch to it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from audiocnn.errors import AudioCNNError
from components.deploy.rollout import Rollout, stage
from components.deploy.settings import DeploySettings
from components.deploy.step import Start, exclusive, prepared, record_deployment
from mlops import tracking
from mlops.artifacts import DeploymentFolder, DeploymentRecord
from mlops.tracking import champion
from serving.torchserve import server as torchserve

RESTORE = "restore the previous champion"  # the step after a failed switch


class ChampionChangeError(AudioCNNError):
    """A version that did not become the champion; the message names the step that failed."""


def approve(
    name: str,
    number: int,
    because: str,
    settings: DeploySettings,
    output: Path,
    start: Start = torchserve.started,
) -> DeploymentRecord:
    """Make a version that waits for approval, or that was refused, the champion and serve it.

    Args:
        because: a reason to overrule the decision; it is recorded.
    Raises:
        ApprovalError: the version needs a reason and none is given.
        ChampionChangeError: a step failed; the champion and what is served are as before.
    """
    version = tracking.get_version(name, number)
    champion.require_reason(version, because)
    return become_champion(version, lambda: champion.approve(name, number, because), settings, output, start)


def rollback(
    name: str, to: int | None, settings: DeploySettings, output: Path, start: Start = torchserve.started
) -> DeploymentRecord:
    """Make the previous champion, or the former champion `to`, the champion again and serve it.

    Raises:
        ApprovalError: there is no former champion whose files are intact.
        ChampionChangeError: a step failed; the champion and what is served are as before.
    """
    target = champion.rollback_target(name, to)
    return become_champion(target, lambda: champion.restore(target), settings, output, start)


def become_champion(
    version: tracking.Version, move: Callable[[], object], settings: DeploySettings, output: Path, start: Start
) -> DeploymentRecord:
    """Prepare a version, call `move`, which makes it the champion, and switch to it.

    Raises:
        ChampionChangeError: a step failed; the champion and what is served are as before.
    """
    DeploymentFolder.check_output(output, [])
    settings = settings.in_this_environment()
    with exclusive(settings):
        with _failed_step(version), prepared(version, None, settings, start) as rollout:
            _move_and_switch(version, move, rollout)
        rollout.retire_others()
    return record_deployment(version, rollout, settings, output)


def _move_and_switch(version: tracking.Version, move: Callable[[], object], rollout: Rollout) -> None:
    before = tracking.champion_number(version.name)
    try:
        with stage("move the alias"):
            move()
    except AudioCNNError:
        rollout.discard()
        raise
    try:
        rollout.switch()
    except AudioCNNError as error:
        with stage(RESTORE):
            champion.move_back(version, before, f"TorchServe did not switch: {error}")
            rollout.undo_switch()
        raise


@contextmanager
def _failed_step(version: tracking.Version) -> Iterator[None]:
    """Add to an error which step failed, and what is the champion now."""
    try:
        yield
    except AudioCNNError as error:
        step = next(iter(getattr(error, "__notes__", [])), "prepare")
        state = "The champion and what TorchServe serves are as before."
        if step == RESTORE:
            state = "`audiocnn status` shows whether the champion and what TorchServe serves agree; correct it by hand."
        raise ChampionChangeError(
            f"{version} did not become the champion, because the step {step!r} failed: {error}\n{state}"
        ) from error
