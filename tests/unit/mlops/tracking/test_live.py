"""Metrics that are sent while the work goes on: what was not sent is told, and what can be sent is."""

import threading
from collections.abc import Mapping

import pytest

from mlops import tracking
from mlops.tracking import live as tracking_live
from mlops.tracking import server as tracking_server


@pytest.fixture
def run() -> tracking.Run:
    return tracking.start_run("live", {}, {}, tracking.Lineage("ab" * 32, "demo", 1))


def recorded(run: tracking.Run) -> list[int]:
    history = tracking_server.server().client.get_metric_history(run.run_id, "test_loss")
    return [point.step for point in history]


def until_nothing_sends() -> None:
    for thread in threading.enumerate():
        if thread.name == "metrics":
            thread.join(60)
            assert not thread.is_alive()


def test_a_number_that_no_chart_shows_is_refused_at_once_and_not_sent_for_ever(run: tracking.Run) -> None:
    with run:
        send = tracking.LiveMetrics(run)
        with pytest.raises(tracking.TrackingError, match="'test_loss' is nan at step 3"):
            send({"test_loss": float("nan")}, 3)
        send.finish(5.0)


@pytest.fixture
def slow(run: tracking.Run, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """A server that takes metrics only once this is set."""
    answer, metrics = threading.Event(), tracking.Run.metrics

    def waits(self: tracking.Run, values: Mapping[str, float], step: int, at: float) -> None:
        answer.wait(60)
        metrics(self, values, step, at)

    monkeypatch.setattr(tracking.Run, "metrics", waits)
    return answer


def test_metrics_that_a_slow_server_has_not_taken_are_an_error(
    run: tracking.Run, slow: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking_live, "ABANDON_SECONDS", 0.1)
    send = tracking.LiveMetrics(run)
    for step in (1, 2):
        send({"test_loss": 0.5}, step)
    with pytest.raises(tracking.TrackingError, match=r"slow: metrics of 2 epochs were not taken in 0\.1 s"):
        send.finish(0.1)
    slow.set()
    until_nothing_sends()
    assert recorded(run) == [1]  # what was under way; nothing after it


def test_metrics_that_are_taken_in_the_last_moment_are_no_error(
    run: tracking.Run, slow: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking_live, "ABANDON_SECONDS", 60.0)
    send = tracking.LiveMetrics(run)
    send({"test_loss": 0.5}, 1)
    threading.Timer(0.5, slow.set).start()
    send.finish(0.1)
    assert recorded(run) == [1]


def test_nothing_is_sent_any_more_once_mlflow_was_given_up(run: tracking.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking_live, "RETRY_SECONDS", 0.1)
    metrics, away = tracking.Run.metrics, threading.Event()
    away.set()

    def goes_away(self: tracking.Run, values: Mapping[str, float], step: int, at: float) -> None:
        if away.is_set():
            raise tracking.TrackingError("MLflow is away")
        metrics(self, values, step, at)

    monkeypatch.setattr(tracking.Run, "metrics", goes_away)
    send = tracking.LiveMetrics(run)
    send({"test_loss": 0.5}, 1)
    with pytest.raises(tracking.TrackingError, match="MLflow is away"):
        send.finish(0.3)
    away.clear()
    until_nothing_sends()
    assert recorded(run) == []


def test_what_ends_the_sending_is_not_swallowed(
    run: tracking.Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def breaks(self: tracking.Run, *_: object) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(tracking.Run, "metrics", breaks)
    send = tracking.LiveMetrics(run)
    send({"test_loss": 0.5}, 1)
    with pytest.raises(ValueError, match="a bug"):
        send.finish(60.0)
    assert "metrics are sent no more: ValueError: a bug" in capsys.readouterr().out


def test_the_last_metrics_of_what_failed_are_still_sent(run: tracking.Run, slow: threading.Event) -> None:
    send = tracking.LiveMetrics(run)
    for step in (1, 2):
        send({"test_loss": 0.5}, step)
    threading.Timer(0.3, slow.set).start()
    send.abandon()
    assert recorded(run) == [1, 2]


def test_a_failure_waits_for_no_server_that_hangs(
    run: tracking.Run, slow: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking_live, "ABANDON_SECONDS", 0.1)
    send = tracking.LiveMetrics(run)
    for step in (1, 2, 3):
        send({"test_loss": 0.5}, step)
    send.abandon()
    assert recorded(run) == []
    slow.set()
    until_nothing_sends()
    assert recorded(run) == [1]
