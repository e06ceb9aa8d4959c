"""Runs of MLflow, for real: what they keep, how they end, under whom they stand, and who may go on with them."""

import os
import signal
import time
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from helpers.mlflow import LINEAGE, recorded, start

from mlops import tracking
from mlops.tracking import server as tracking_server


def test_a_run_keeps_its_settings_its_code_its_data_and_its_curve() -> None:
    with start() as run:
        for epoch in (1, 2, 3):
            run.metrics({"train_loss": 1 / epoch}, step=epoch)
    kept = recorded(run)
    assert kept.info.status == "FINISHED"
    assert kept.data.params == {"train.epochs": "3", "train.lr": "0.1"}
    assert kept.data.tags["note"] == "x" and kept.data.tags["dataset_digest"] == LINEAGE.digest
    assert len(kept.data.tags["code_digest"]) == 64 and kept.data.tags["mlflow.source.git.commit"]
    history = tracking_server.server().client.get_metric_history(run.run_id, "train_loss")
    assert [(point.step, round(point.value, 3)) for point in history] == [(1, 1.0), (2, 0.5), (3, 0.333)]
    (given,) = kept.inputs.dataset_inputs
    assert given.dataset.name == "demo" and LINEAGE.digest.startswith(given.dataset.digest)
    assert LINEAGE.digest in given.dataset.source


def test_even_a_short_run_shows_system_metrics() -> None:
    with start() as run:
        pass
    assert {"system/cpu_utilization_percentage", "system/system_memory_usage_megabytes"} <= set(
        recorded(run).data.metrics
    )


def test_more_than_a_hundred_settings_fit_into_a_run() -> None:
    run = start(many={f"key{number}": number for number in range(150)})
    assert len(recorded(run).data.params) == 152


def test_an_exception_leaves_the_run_failed_with_the_reason() -> None:
    with pytest.raises(ZeroDivisionError), start() as run:
        raise ZeroDivisionError("the loss is gone\nsecond line")
    assert recorded(run).info.status == "FAILED"
    assert recorded(run).data.tags["failure"] == "ZeroDivisionError: the loss is gone"


def test_ctrl_c_leaves_the_run_killed() -> None:
    with pytest.raises(KeyboardInterrupt), start() as run:
        raise KeyboardInterrupt
    assert recorded(run).info.status == "KILLED"


def test_the_signal_that_ends_a_pod_leaves_the_run_killed() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as left, start() as run:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)  # the signal arrives long before
    assert left.value.code == 128 + signal.SIGTERM
    assert recorded(run).info.status == "KILLED" and signal.getsignal(signal.SIGTERM) == before


def test_a_run_that_is_taken_up_again_ends_finished_and_forgets_its_failure() -> None:
    with pytest.raises(KeyboardInterrupt), start() as run:
        run.metrics({"train_loss": 1.0}, step=1)
        raise KeyboardInterrupt
    with tracking.resume_run(run.run_id) as again:
        assert recorded(run).info.status == "RUNNING"
        again.metrics({"train_loss": 0.5}, step=2)
    assert recorded(run).info.status == "FINISHED" and "failure" not in recorded(run).data.tags
    assert len(tracking_server.server().client.get_metric_history(run.run_id, "train_loss")) == 2


def child(parent: tracking.Run) -> tracking.Run:
    return tracking.start_run("a child", {}, {}, LINEAGE, parent=parent.run_id)


def test_a_child_stands_under_its_parent_and_stays_there_when_it_is_taken_up_again() -> None:
    parent = start()
    with child(parent) as run:
        pass
    with tracking.resume_run(run.run_id):
        pass
    assert recorded(run).data.tags["mlflow.parentRunId"] == parent.run_id
    assert recorded(parent).info.status == "RUNNING"


def test_a_child_that_another_parent_takes_up_moves_under_it() -> None:
    first, second = start(), start()
    run = child(first)
    moved = tracking.find_run(run.run_id, second.run_id)
    assert moved is not None
    with pytest.raises(KeyError), moved:
        raise KeyError("x")
    assert recorded(run).data.tags["mlflow.parentRunId"] == second.run_id
    assert (recorded(first).info.status, recorded(second).info.status) == ("KILLED", "FAILED")


def test_a_parent_that_has_ended_stays_as_it_ended_when_a_child_leaves_it() -> None:
    second = start()
    with start() as first:
        run = child(first)
    assert tracking.find_run(run.run_id, second.run_id) is not None
    assert recorded(first).info.status == "FINISHED"


def test_a_child_that_fails_takes_its_parent_along_and_a_second_try_frees_both() -> None:
    parent = start()
    with pytest.raises(ValueError, match="lost"), child(parent) as run:
        error = ValueError("the loss is lost")
        error.add_note("This was fold 3.")
        raise error
    for each in (parent, run):
        assert recorded(each).info.status == "FAILED"
        assert recorded(each).data.tags["failure"] == "ValueError: the loss is lost This was fold 3."
    with tracking.resume_run(run.run_id):
        pass
    with tracking.resume_run(parent.run_id):
        pass
    assert {recorded(each).info.status for each in (parent, run)} == {"FINISHED"}
    assert "failure" not in recorded(parent).data.tags


def test_a_run_that_does_not_exist_cannot_be_resumed() -> None:
    with pytest.raises(tracking.TrackingError, match="Run with id=nowhere not found"):
        tracking.resume_run("nowhere")
    assert tracking.find_run("nowhere") is None


def test_a_deleted_run_cannot_be_resumed() -> None:
    run = start()
    tracking_server.server().client.delete_run(run.run_id)
    with pytest.raises(tracking.TrackingError, match=f"{run.run_id} not found, or it was deleted"):
        tracking.resume_run(run.run_id)
    assert tracking.find_run(run.run_id) is None


def test_nothing_stands_under_a_run_that_is_not_there() -> None:
    alone, gone = start(), start()
    tracking_server.server().client.delete_run(gone.run_id)
    before = len(mlflow.search_runs(search_all_experiments=True, output_format="list"))
    for parent in ("nowhere", gone.run_id):
        with pytest.raises(tracking.TrackingError, match=f"has no run '{parent}' to stand under, or it was deleted"):
            tracking.start_run("a child", {}, {}, LINEAGE, parent=parent)
        with pytest.raises(tracking.TrackingError, match=f"has no run '{parent}' to stand under"):
            tracking.find_run(alone.run_id, parent)
    assert len(mlflow.search_runs(search_all_experiments=True, output_format="list")) == before


@pytest.mark.parametrize("part", ["_params", "_dataset"])
def test_a_run_that_cannot_be_described_ends_failed(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(self: tracking.Run, _: object) -> None:
        raise tracking.TrackingError(f"no {part} today")

    monkeypatch.setattr(tracking.Run, part, refuses)
    with pytest.raises(tracking.TrackingError, match=f"no {part} today"):
        start()
    (run,) = mlflow.search_runs(search_all_experiments=True, output_format="list", max_results=1)
    assert run.info.status == "FAILED" and f"no {part} today" in run.data.tags["failure"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_metric_that_is_no_number_is_an_error(value: float) -> None:
    with pytest.raises(tracking.TrackingError, match=r"'train_loss' is (nan|inf) at step 7"):
        start().metrics({"train_loss": value}, step=7)


def test_artifacts_lie_beside_the_database_and_are_replaced_not_doubled(tmp_path: Path) -> None:
    run, frame = start(), pd.DataFrame({"class": ["dog"], "f1": [0.5]})
    for _ in range(2):
        run.table(frame, "tables/classes.csv")
        run.table(frame, "tables/classes.json")
    run.text("# card", "card.md")
    got = Path(mlflow.artifacts.download_artifacts(run_id=run.run_id, dst_path=str(tmp_path)))
    assert (got / "card.md").read_text() == "# card"
    assert (got / "tables/classes.csv").read_text() == "class,f1\ndog,0.5\n"
    assert (
        len(
            tracking_server.server().client.load_table(
                recorded(run).info.experiment_id, "tables/classes.json", [run.run_id]
            )
        )
        == 1
    )
    database = Path(os.environ["MLFLOW_TRACKING_URI"].removeprefix("sqlite:///"))
    assert recorded(run).info.artifact_uri.startswith(database.with_name("mlflow-artifacts").as_uri())
