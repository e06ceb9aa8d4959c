"""The alias `champion`: promotion, approval, and where a rollback leads."""

from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.mlflow import start

from mlops import tracking
from mlops.tracking import champion, history


@pytest.fixture
def name(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A registered model with three versions."""
    name = request.node.name
    client = tracking.connect().client
    client.create_registered_model(name)
    for _ in range(3):
        client.create_model_version(name, str(tmp_path), start().run_id)
    return name


def current(name: str, alias: str = champion.CHAMPION) -> int | None:
    version = tracking.version_by_alias(name, alias)
    return None if version is None else version.number


def promote(name: str, number: int) -> history.Entry:
    return champion.move(name, number, kind="promote", by="policy")


def moves(name: str) -> list[tuple[str, int | None, int | None]]:
    return [(entry.kind, entry.version_from, entry.version_to) for entry in history.entries(name)]


def test_promotion_moves_the_alias_and_logs_it_once(name: str) -> None:
    for number in (1, 2, 2):
        promote(name, number)
    assert current(name) == 2 and current(name, champion.PREVIOUS) == 1
    assert moves(name) == [("promote", None, 1), ("promote", 1, 2)]


def test_approval_records_user_and_reason(name: str) -> None:
    tracking.tag_version(name, 1, {"decision": "wait"})
    version = champion.approve(name, 1, by="anna")
    assert current(name) == 1 and history.entries(name)[-1].by == "anna"
    assert version.tags["approved_by"] == "anna" and version.tags["approved_because"] == "it was waiting"


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({}, "was not evaluated by the step promote"),
        ({"decision": "refuse", "decision_reasons": "accuracy is 25 %"}, r"was refused \(accuracy is 25 %\)"),
        ({"decision": "wait"}, "was compared with champion none, but the champion is now 2"),
    ],
)
def test_approval_against_the_decision_needs_a_reason(name: str, tags: dict[str, str], reason: str) -> None:
    promote(name, 2)
    tracking.tag_version(name, 1, tags)
    for blank in ("", "  "):
        with pytest.raises(champion.ApprovalError, match=f'{reason}.*audiocnn approve 1 --because "'):
            champion.approve(name, 1, because=blank)
    assert current(name) == 2
    version = champion.approve(name, 1, because="version 2 is unsafe")
    assert current(name) == 1 and version.tags["approved_because"] == "version 2 is unsafe"


def test_rollback_goes_back_step_by_step(name: str) -> None:
    for number in (1, 2, 3):
        promote(name, number)
    assert champion.rollback(name, by="anna").number == 2 and current(name) == 2
    assert tracking.get_version(name, 3).tags["rolled_back_by"] == "anna"
    assert champion.rollback(name).number == 1 and current(name) == 1
    assert current(name, champion.PREVIOUS) is None
    with pytest.raises(champion.ApprovalError, match="no previous champion in its history"):
        champion.rollback(name)
    promote(name, 3)
    assert champion.rollback(name).number == 1
    assert moves(name)[2:] == [
        ("promote", 2, 3),
        ("rollback", 3, 2),
        ("rollback", 2, 1),
        ("promote", 1, 3),
        ("rollback", 3, 1),
    ]
    assert history.verify(name) == []


def test_alias_moved_in_mlflow_can_be_rolled_back(name: str) -> None:
    for number in (1, 2):
        promote(name, number)
    tracking.set_alias(name, champion.CHAMPION, 1)
    assert champion.rollback(name).number == 2 and current(name) == 2
    tracking.set_alias(name, champion.CHAMPION, 3)
    promote(name, 1)
    assert champion.rollback(name).number == 3


def test_promotion_over_an_alias_moved_in_mlflow_records_that_move(name: str) -> None:
    for number in (1, 2, 3):
        promote(name, number)
    tracking.set_alias(name, champion.CHAMPION, 1)
    promote(name, 3)
    assert moves(name)[-2:] == [("external", 3, 1), ("promote", 1, 3)]
    assert history.entries(name)[-2].by == "outside audiocnn"
    assert champion.rollback(name).number == 1


def test_alias_removed_in_mlflow_can_be_restored(name: str) -> None:
    promote(name, 1)
    tracking.delete_alias(name, champion.CHAMPION)
    assert champion.rollback(name).number == 1 and current(name) == 1


@pytest.mark.parametrize(
    "interrupted",
    [lambda name: promote(name, 3), lambda name: champion.rollback(name)],
    ids=["promotion", "rollback"],
)
def test_interrupted_move_is_completed(
    name: str, interrupted: Callable[[str], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 2):
        promote(name, number)

    def fail(*_: object) -> None:
        raise tracking.TrackingError("connection lost")

    with monkeypatch.context() as patch, pytest.raises(tracking.TrackingError):
        patch.setattr(champion, "set_alias", fail)  # after the log was written
        interrupted(name)
    assert current(name) == 2
    last = history.entries(name)[-1]
    assert last.version_to is not None
    assert champion.move(name, last.version_to, kind=last.kind, by=last.by) == last
    assert current(name) == last.version_to and len(history.entries(name)) == 3


