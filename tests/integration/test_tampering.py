"""Changes that bypass the commands: in MLflow's pages, in its files, and commands with wrong versions."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers import registry
from helpers.served_registry import ServedRegistry, served_registry

from components.promote.step import promote
from mlops import tracking
from mlops.tracking import champion, history

pytestmark = pytest.mark.xdist_group("tampering")
REFUSED = 4


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedRegistry]:
    """Versions 1, 2, 3 were champion in this order, and 3 is served; 4 was refused, 5 waits."""
    with served_registry("tampered", tmp_path_factory.mktemp("tampered")) as team:
        for outcome in ("promote", "promote", "promote", "refuse", "wait"):
            team.register(outcome)
        for number in (1, 2, 3):
            champion.move(team.name, number, kind="promote", by="policy")
        registry.record_decision(team.name, 5, "wait", 3)
        team.run("deploy")
        yield team


def refused(team: ServedRegistry, *command: str) -> str:
    """Run a command that fails, and changes neither alias, server nor history; return its error."""
    before = (team.state(), team.changes())
    result = team.call(*command)
    assert result.exit_code == 2 and "Traceback" not in result.output, result.output
    assert result.stderr.count("error: ") == 1
    assert (team.state(), team.changes()) == before
    return result.stderr


@pytest.fixture
def files(team: ServedRegistry) -> Iterator[dict[int, Path]]:
    """The stored folders of versions 2 to 4, which are restored after the test."""
    folders = {number: registry.stored_files(tracking.get_version(team.name, number)) for number in (2, 3, 4)}
    for number, folder in folders.items():
        shutil.copytree(folder, team.folder / "copies" / str(number))
    yield folders
    for number, folder in folders.items():
        shutil.rmtree(folder, ignore_errors=True)
        shutil.move(team.folder / "copies" / str(number), folder)


def flip_a_byte(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def test_approve_a_version_that_does_not_exist(team: ServedRegistry) -> None:
    assert "'tampered' has no version 99" in refused(team, "approve", "99")


def test_approve_a_refused_version(team: ServedRegistry) -> None:
    error = refused(team, "approve", str(REFUSED))
    assert "version 4 was refused (accuracy is 12.5 %, below 60 %)" in error and "--because" in error


def test_alias_moved_to_a_refused_version(team: ServedRegistry) -> None:
    """`deploy` refuses it; `reconcile` records it, moves the alias back and says so on the page."""
    team.move_alias(REFUSED)
    error = team.call("deploy")
    assert error.exit_code == 2 and "version 4 was refused (accuracy is 12.5 %" in error.stderr
    status = team.call("status")
    assert status.exit_code == 1 and "`audiocnn reconcile` moves the alias champion back" in status.stdout
    assert "`audiocnn deploy`" not in status.stdout
    assert team.state() == (REFUSED, 3)
    team.run("reconcile")
    assert team.state() == (3, 3)
    assert team.changes()[-2:] == [("external", 3, REFUSED), ("reverted", REFUSED, 3)]
    assert "was moved back" in team.page(REFUSED)
    assert history.entries(team.name)[-2].by == "outside audiocnn"


def test_rollback_after_the_alias_was_moved_to_a_refused_version(team: ServedRegistry) -> None:
    """It restores the champion that audiocnn knows, and the history says what happened."""
    team.move_alias(REFUSED)
    team.run("rollback")
    assert team.state() == (3, 3)
    assert team.changes()[-2:] == [("external", 3, REFUSED), ("rollback", REFUSED, 3)]


@pytest.mark.parametrize("file", ["model.safetensors", "model.json", "clips.csv"])
@pytest.mark.parametrize("command", [("approve", "2", "--because", "a test"), ("rollback", "--to", "2")])
def test_a_changed_file(team: ServedRegistry, files: dict[int, Path], file: str, command: tuple[str, ...]) -> None:
    """The error names version and file, not a temporary folder; alias and server stay."""
    flip_a_byte(files[2] / file)
    error = refused(team, *command)
    assert f"tampered version 2: the file {file} was changed" in error and "/tmp" not in error


def test_the_folder_of_another_version(team: ServedRegistry, files: dict[int, Path]) -> None:
    """Weights and model.json fit each other, and no tag tells the difference; the manifest does."""
    shutil.rmtree(files[2])
    shutil.copytree(files[4], files[2])
    for tag in tracking.get_version(team.name, 2).tags:
        team.mlflow.delete_model_version_tag(team.name, "2", tag)
    assert "was changed" in refused(team, "approve", "2", "--because", "a test")


@pytest.mark.parametrize("damage", [lambda folder: flip_a_byte(folder / "clips.csv"), shutil.rmtree])
def test_a_damaged_champion_and_the_step_promote(
    team: ServedRegistry, files: dict[int, Path], damage: Callable[[Path], None], tmp_path: Path
) -> None:
    """The new version waits for a person; the run does not fail."""
    damage(files[3])
    made = team.candidates[5]
    inputs = (made.registration, made.model, made.evaluation, team.data.spectrograms)
    decision = promote(*inputs, registry.POLICY, tmp_path / "decision")
    assert decision.outcome == "wait" and "version 3" in decision.reasons[0], decision.reasons
    assert team.call("deploy").exit_code == 2


def test_an_unreadable_log_of_release_0_1_0(team: ServedRegistry) -> None:
    team.mlflow.set_registered_model_tag(team.name, "champion_log", "oops")
    status = team.call("status")
    assert status.exit_code == 1 and "champion_log" in status.stdout and "is ignored" in status.stdout
    team.mlflow.delete_registered_model_tag(team.name, "champion_log")
    team.run("status")


def test_the_alias_removed(team: ServedRegistry) -> None:
    """`deploy` says what is missing, `rollback` restores the champion."""
    team.mlflow.delete_registered_model_alias(team.name, "champion")
    assert "no version under the alias champion" in refused(team, "deploy")
    team.run("reconcile")
    team.run("rollback")
    assert team.state() == (3, 3) and team.changes()[-2:] == [("external", 3, None), ("rollback", None, 3)]


def test_an_approval_over_an_alias_moved_by_hand_and_a_deleted_champion(team: ServedRegistry) -> None:
    """The history has every move; a rollback skips what was refused or deleted, and writes no false entry."""
    team.move_alias(REFUSED)
    team.run("approve", "5", "--because", "a test")
    assert team.state() == (5, 5)
    assert team.changes()[-2:] == [("external", 3, REFUSED), ("approve", REFUSED, 5)]
    before = team.changes()
    team.mlflow.delete_model_version(team.name, "3")
    result = team.run("rollback")
    assert "version 4 was refused, and became champion only outside audiocnn; it is skipped" in result.stderr
    assert "has no version 3; it is skipped" in result.stderr
    assert team.state() == (2, 2) and team.changes() == [*before, ("rollback", 5, 2)]
