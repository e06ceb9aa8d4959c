"""The alias `champion`: promotion, approval, and where a rollback leads."""

from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.mlflow import start
from helpers.registry import bare_version, record_decision, stored_files

from mlops import tracking
from mlops.artifacts import Outcome
from mlops.tracking import champion, history


@pytest.fixture
def name(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A registered model with three versions."""
    name = request.node.name
    tracking.connect().client.create_registered_model(name)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.json").write_text("{}")
    for _ in range(3):
        bare_version(name, tmp_path / "model", start().run_id)
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


def test_approval_records_user_and_reason(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    record_decision(name, 1, "wait")
    monkeypatch.setenv("LOGNAME", "anna")
    version = champion.approve(name, 1)
    assert current(name) == 1 and history.entries(name)[-1].by == "anna"
    assert version.tags["validation_status"] == "approved" and champion.OVERRIDE not in version.tags


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        (None, "was not evaluated by the step promote"),
        ("refuse", r"was refused \(accuracy is 25 %; too slow\)"),
        ("wait", "was compared with champion none, but the champion is now 2"),
    ],
)
def test_approval_against_the_decision_needs_a_reason(name: str, outcome: Outcome | None, reason: str) -> None:
    promote(name, 2)
    if outcome:
        record_decision(name, 1, outcome, reasons=("accuracy is 25 %", "too slow"))
    for blank in ("", "  "):
        with pytest.raises(champion.ApprovalError, match=f'{reason}.*audiocnn approve 1 --because "'):
            champion.approve(name, 1, because=blank)
    assert current(name) == 2
    version = champion.approve(name, 1, because="version 2 is unsafe")
    assert current(name) == 1 and version.tags[champion.OVERRIDE] == "version 2 is unsafe"
    assert history.entries(name)[-1].because == "version 2 is unsafe"


def test_a_deleted_record_of_the_decision_needs_a_reason(name: str) -> None:
    tracking.tag_version(name, 1, {"decision": "wait"})
    with pytest.raises(champion.ApprovalError, match="has no readable record of its decision"):
        champion.approve(name, 1)
    tracking.tag_version(name, 1, {"decision": "refuse"})
    with pytest.raises(champion.ApprovalError, match="version 1 was refused; run the step promote"):
        champion.approve(name, 1)


def test_rollback_goes_back_step_by_step(name: str) -> None:
    for number in (1, 2, 3):
        promote(name, number)
    assert champion.rollback(name).number == 2 and current(name) == 2
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


def test_deleted_and_damaged_versions_are_skipped(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for number in (1, 2, 3, 1):
        promote(name, number)
    tracking.connect().client.delete_model_version(name, "3")
    damaged = stored_files(tracking.get_version(name, 2)) / "model.json"
    damaged.write_text("[]")
    with pytest.raises(champion.ApprovalError, match="has no previous champion in its history, so version 1 stays"):
        champion.rollback(name)
    lines = capsys.readouterr().err
    assert f"the model {name!r} has no version 3; it is skipped" in lines
    assert f"{name} version 2: the file model.json was changed since it was registered" in lines
    with pytest.raises(champion.ApprovalError, match=r"no rollback: .* 2: the file model\.json was"):
        champion.rollback_target(name, to=2)
    damaged.write_text("{}")
    assert champion.rollback(name).number == 2 and current(name) == 2 and history.verify(name) == []


def test_rollback_to_a_chosen_version(name: str) -> None:
    for number in (1, 2):
        promote(name, number)
    assert champion.rollback_target(name, to=1).number == 1
    with pytest.raises(champion.ApprovalError, match="version 2 is the champion already"):
        champion.rollback_target(name, to=2)
    with pytest.raises(champion.ApprovalError, match="version 3 was never the champion; `audiocnn approve 3"):
        champion.rollback_target(name, to=3)


def test_refused_version_moved_in_mlflow_is_no_rollback_target(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    promote(name, 1)
    tracking.tag_version(name, 3, {"decision": "refuse"})
    tracking.set_alias(name, champion.CHAMPION, 3)
    promote(name, 2)
    assert moves(name) == [("promote", None, 1), ("external", 1, 3), ("promote", 3, 2)]
    assert champion.rollback_target(name).number == 1
    assert "was refused, and became champion only outside audiocnn; it is skipped" in capsys.readouterr().err
    tracking.tag_version(name, 3, {champion.OVERRIDE: "the only one that knows sirens"})
    assert champion.rollback_target(name).number == 3


def test_outside_change_is_recorded_and_reverted(name: str) -> None:
    promote(name, 1)
    tracking.set_alias(name, champion.CHAMPION, 3)
    champion.move(name, 3, kind="external", by=history.OUTSIDE)
    champion.move(name, 1, kind="reverted", by="policy", because="version 3 was refused")
    assert moves(name)[1:] == [("external", 1, 3), ("reverted", 3, 1)] and current(name) == 1
    assert champion.champions_of(history.entries(name)) == [1]
