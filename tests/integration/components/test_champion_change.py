"""approve, rollback, reconcile and status with a real registry and a real TorchServe."""

import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from helpers.registry import record_decision
from helpers.served_registry import ServedRegistry, served_registry

from components.deploy import rollout
from mlops import tracking
from mlops.tracking import champion
from serving.torchserve.client import ServingError

pytestmark = pytest.mark.xdist_group("champion-change")


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedRegistry]:
    """Version 1 is the champion and served; 2 waits, 3 was refused."""
    with served_registry("changed", tmp_path_factory.mktemp("changed")) as team:
        for outcome in ("wait", "wait", "refuse"):
            team.register(outcome)
        team.run("approve", "1")
        wait_for_approval(team, 2)
        yield team


def wait_for_approval(team: ServedRegistry, number: int) -> None:
    """Let a version wait for approval against the present champion."""
    record_decision(team.name, number, "wait", team.champion())
    tracking.tag_version(team.name, number, {tracking.STATUS_TAG: "pending"})


def test_the_first_approval_starts_torchserve(team: ServedRegistry) -> None:
    assert team.state() == (1, 1)
    assert team.changes() == [("approve", None, 1)]
    assert "waiting     version 2: `audiocnn approve 2`" in team.run("status").stdout


def test_a_switch_that_fails_is_undone(team: ServedRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ServingError("the connection broke")

    with monkeypatch.context() as patch:
        patch.setattr(rollout, "_switch", fail)
        result = team.call("approve", "2")
    assert result.exit_code == 2 and "the step 'switch' failed: the connection broke" in result.stderr
    assert "The champion and what TorchServe serves are as before." in result.stderr
    assert team.state() == (1, 1) and len(team.client.list_versions(team.name)) == 1
    assert team.changes()[1:] == [("approve", 1, 2), ("reverted", 2, 1)]


def test_an_alias_that_cannot_move_changes_nothing(team: ServedRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise tracking.TrackingError("MLflow does not answer")

    before = team.changes()
    with monkeypatch.context() as patch:
        patch.setattr(champion, "move", fail)
        result = team.call("approve", "2")
    assert result.exit_code == 2 and "the step 'move the alias' failed: MLflow does not answer" in result.stderr
    assert (team.state(), team.changes()) == ((1, 1), before)
    assert len(team.client.list_versions(team.name)) == 1


def test_an_approval_and_a_rollback_change_alias_and_server(team: ServedRegistry) -> None:
    wait_for_approval(team, 2)
    for command, expected in ((("approve", "2"), 2), (("rollback",), 1)):
        team.run(*command)
        assert team.state() == (expected, expected)
    assert tracking.get_version(team.name, 2).tags[tracking.STATUS_TAG] == "rejected"
    team.run("rollback", "--to", "2")
    assert team.state() == (2, 2)
    team.run("rollback")
    assert team.state() == (1, 1)


def test_status_reports_that_the_champion_is_not_served(team: ServedRegistry) -> None:
    team.move_alias(2)
    status = team.call("status")
    assert status.exit_code == 1
    assert (
        "the alias champion was moved to version 2 outside audiocnn; `audiocnn reconcile` records it" in status.stdout
    )
    assert "the champion, version 2, is not served everywhere; run `audiocnn deploy`" in status.stdout
    team.move_alias(1)
    team.run("status")


def test_reconcile_handles_changes_in_mlflow_within_seconds(
    team: ServedRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop: an approval by tag, a refused version under the alias, and an outage in between."""
    ended = threading.Event()
    wait_for_approval(team, 2)
    passes = 0

    def pause(seconds: float) -> None:
        nonlocal passes
        passes += 1
        if ended.wait(seconds):
            raise KeyboardInterrupt

    # Not time.sleep itself, which a deploy calls too.
    monkeypatch.setattr("pipeline.cli.model_versions.time", SimpleNamespace(sleep=pause))
    results = []
    loop = threading.Thread(target=lambda: results.append(team.call("reconcile", "--watch", "--interval", "0.2")))
    loop.start()
    try:
        tracking.tag_version(team.name, 2, {tracking.STATUS_TAG: "approved"})
        wait_for(lambda: team.state() == (2, 2))
        team.move_alias(3)
        wait_for(lambda: "and was moved back" in team.page(3))
        with monkeypatch.context() as outage:
            outage.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
            before = passes
            wait_for(lambda: passes >= before + 3)  # the first of them began before the outage
        team.move_alias(1)
        wait_for(lambda: team.state() == (1, 1))
    finally:
        ended.set()
        loop.join(60)
    assert results[0].exit_code == 130 and results[0].stderr.count("cannot be reached") == 1
    assert "version 3 was refused (accuracy is 12.5 %, below 60 %)" in results[0].output, team.changes()
    assert team.changes()[-4:] == [("approve", 1, 2), ("external", 2, 3), ("reverted", 3, 2), ("external", 2, 1)]
    assert "was moved to this version outside audiocnn, and was moved back" in team.page(3)


def wait_for(condition) -> None:
    deadline = time.monotonic() + 120  # on a busy machine, an approval takes a minute
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)
