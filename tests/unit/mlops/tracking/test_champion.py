"""The alias `champion`: promotion, approval, rollback, and the log of moves."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.mlflow import start

from mlops import tracking
from mlops.provenance import utc_now
from mlops.tracking import champion


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


def moves(name: str) -> list[tuple[str, int]]:
    return [(move.kind, move.to) for move in champion.history(name)]


def test_promotion_moves_the_alias_and_logs_it_once(name: str) -> None:
    for number in (1, 2, 2):
        champion.set_champion(name, number, by="policy")
    assert current(name) == 2 and current(name, champion.PREVIOUS) == 1
    assert moves(name) == [("promote", 1), ("promote", 2)]


def test_approval_records_user_and_reason(name: str) -> None:
    tracking.tag_version(name, 1, {"decision": "wait"})
    version = champion.approve(name, 1, by="anna")
    assert current(name) == 1 and champion.history(name)[-1].by == "anna"
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
    champion.set_champion(name, 2, by="policy")
    tracking.tag_version(name, 1, tags)
    for blank in ("", "  "):
        with pytest.raises(champion.ApprovalError, match=f'{reason}.*audiocnn approve 1 --because "'):
            champion.approve(name, 1, because=blank)
    assert current(name) == 2
    version = champion.approve(name, 1, because="version 2 is unsafe")
    assert current(name) == 1 and version.tags["approved_because"] == "version 2 is unsafe"


def test_rollback_goes_back_step_by_step(name: str) -> None:
    for number in (1, 2, 3):
        champion.set_champion(name, number, by="policy")
    assert champion.rollback(name, by="anna").number == 2 and current(name) == 2
    assert tracking.get_version(name, 3).tags["rolled_back_by"] == "anna"
    assert champion.rollback(name).number == 1 and current(name) == 1
    assert current(name, champion.PREVIOUS) is None
    with pytest.raises(champion.ApprovalError, match="no previous champion in its log"):
        champion.rollback(name)
    champion.set_champion(name, 3, by="anna")
    assert champion.rollback(name).number == 1
    promotions = [("promote", number) for number in (1, 2, 3)]
    assert moves(name) == [*promotions, ("rollback", 2), ("rollback", 1), ("promote", 3), ("rollback", 1)]


def test_alias_moved_in_mlflow_can_be_rolled_back(name: str) -> None:
    for number in (1, 2):
        champion.set_champion(name, number, by="policy")
    tracking.set_alias(name, champion.CHAMPION, 1)
    assert champion.rollback(name).number == 2 and current(name) == 2
    tracking.set_alias(name, champion.CHAMPION, 3)
    champion.set_champion(name, 1, by="policy")
    assert champion.rollback(name).number == 3


def test_promotion_over_an_alias_moved_in_mlflow_records_that_move(name: str) -> None:
    for number in (1, 2, 3):
        champion.set_champion(name, number, by="policy")
    tracking.set_alias(name, champion.CHAMPION, 1)
    champion.set_champion(name, 3, by="policy")
    assert [(move.to, move.by) for move in champion.history(name)[-2:]] == [(1, "MLflow"), (3, "policy")]
    assert champion.rollback(name).number == 1


def test_alias_removed_in_mlflow_can_be_restored(name: str) -> None:
    champion.set_champion(name, 1, by="policy")
    tracking.delete_alias(name, champion.CHAMPION)
    assert champion.rollback(name).number == 1 and current(name) == 1


@pytest.mark.parametrize(
    "interrupted",
    [lambda name: champion.set_champion(name, 3, by="policy"), lambda name: champion.rollback(name)],
    ids=["promotion", "rollback"],
)
def test_interrupted_move_is_completed(
    name: str, interrupted: Callable[[str], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 2):
        champion.set_champion(name, number, by="policy")

    def fail(*_: object) -> None:
        raise tracking.TrackingError("connection lost")

    with monkeypatch.context() as patch, pytest.raises(tracking.TrackingError):
        patch.setattr(champion, "set_alias", fail)  # after the log was written
        interrupted(name)
    assert current(name) == 2
    logged = champion.history(name)[-1].to
    champion.set_champion(name, logged, by="policy")
    assert current(name) == logged and len(champion.history(name)) == 3


def test_log_stays_within_the_limit_of_mlflow(name: str) -> None:
    user = "a-user-name-of-thirty-letters-"
    log = [champion.Move(utc_now(), "promote", 1 + turn % 2, user) for turn in range(champion.LOG_LENGTH)]
    tracking.tag_model(name, {champion.LOG: json.dumps([dataclasses.asdict(move) for move in log])})
    tracking.set_alias(name, champion.CHAMPION, 2)
    for number in (1, 2, 1):
        champion.set_champion(name, number, by=user)
    assert len(champion.history(name)) == champion.LOG_LENGTH
    assert len(tracking.model_tags(name)[champion.LOG]) < 5000
    assert champion.rollback(name).number == 2


def test_rolled_back_version_does_not_return_with_a_full_log(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(champion, "LOG_LENGTH", 4)
    for number in (1, 2):
        champion.set_champion(name, number, by="anna")
    champion.rollback(name)
    for _ in range(champion.LOG_LENGTH):
        champion.set_champion(name, 3, by="anna")
        assert champion.rollback(name).number == 1
    with pytest.raises(champion.ApprovalError, match="no previous champion in its log"):
        champion.rollback(name)
    assert current(name) == 1
