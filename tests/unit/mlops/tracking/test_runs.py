"""MLflow runs: logged data, final status, parents, and resuming."""

import os
import signal
import time
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from helpers.mlflow import LINEAGE, recorded, start

from mlops import tracking
from mlops.tracking import runs


def test_run_logs_parameters_code_data_and_metrics() -> None:
    with start() as run:
        for epoch in (1, 2, 3):
            run.log_metrics({"train_loss": 1 / epoch}, step=epoch)
    kept = recorded(run)
    assert kept.info.status == "FINISHED"
    assert kept.data.params == {"train.epochs": "3", "train.lr": "0.1"}
    assert kept.data.tags["note"] == "x" and kept.data.tags["dataset_digest"] == LINEAGE.digest
    assert len(kept.data.tags["code_digest"]) == 64 and kept.data.tags["mlflow.source.git.commit"]
    history = tracking.connect().client.get_metric_history(run.run_id, "train_loss")
    assert [(point.step, round(point.value, 3)) for point in history] == [(1, 1.0), (2, 0.5), (3, 0.333)]
    (given,) = kept.inputs.dataset_inputs
    assert given.dataset.name == "demo" and LINEAGE.digest.startswith(given.dataset.digest)
    assert LINEAGE.digest in given.dataset.source


def test_equal_runs_have_different_names_and_a_description() -> None:
    runs = [recorded(tracking.start_run("same", {}, {}, LINEAGE, description="of *one* kind")) for _ in range(2)]
    assert [run.info.run_name for run in runs] == [f"same {run.info.run_id[:6]}" for run in runs]
    assert runs[0].info.run_name != runs[1].info.run_name
    assert runs[0].data.tags["mlflow.note.content"] == "of *one* kind"


def test_changes_of_the_code_are_kept_with_the_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    client, diff = tracking.connect().client, "-WIDTH = 1\n+WIDTH = 2\n"
    monkeypatch.setattr(runs, "git_diff", lambda: "")
    assert not client.list_artifacts(start().run_id)
    monkeypatch.setattr(runs, "git_diff", lambda: diff)
    assert Path(client.download_artifacts(start().run_id, "code.diff", str(tmp_path))).read_text() == diff


def test_short_run_logs_system_metrics() -> None:
    with start() as run:
        pass
    assert {"system/cpu_utilization_percentage", "system/system_memory_usage_megabytes"} <= set(
        recorded(run).data.metrics
    )


def test_run_logs_more_than_a_hundred_parameters() -> None:
    run = start(many={f"key{number}": number for number in range(150)})
    assert len(recorded(run).data.params) == 152


def test_run_fails_with_the_message_of_an_exception() -> None:
    with pytest.raises(ZeroDivisionError), start() as run:
        raise ZeroDivisionError("no loss\nsecond line")
    assert recorded(run).info.status == "FAILED"
    assert recorded(run).data.tags["failure"] == "ZeroDivisionError: no loss"


def test_ctrl_c_kills_the_run() -> None:
    with pytest.raises(KeyboardInterrupt), start() as run:
        raise KeyboardInterrupt
    assert recorded(run).info.status == "KILLED"


def test_sigterm_kills_the_run() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as left, start() as run:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)  # interrupted by the signal
    assert left.value.code == 128 + signal.SIGTERM
    assert recorded(run).info.status == "KILLED" and signal.getsignal(signal.SIGTERM) == before


def test_resumed_run_finishes_without_the_earlier_failure() -> None:
    with pytest.raises(KeyboardInterrupt), start() as run:
        run.log_metrics({"train_loss": 1.0}, step=1)
        raise KeyboardInterrupt
    with tracking.resume_run(run.run_id) as again:
        assert recorded(run).info.status == "RUNNING"
        again.log_metrics({"train_loss": 0.5}, step=2)
    assert recorded(run).info.status == "FINISHED" and "failure" not in recorded(run).data.tags
    assert len(tracking.connect().client.get_metric_history(run.run_id, "train_loss")) == 2


def child(parent: tracking.Run) -> tracking.Run:
    return tracking.start_run("a child", {}, {}, LINEAGE, parent=parent.run_id)


def test_resumed_child_keeps_its_parent() -> None:
    parent = start()
    with child(parent) as run:
        pass
    with tracking.resume_run(run.run_id):
        pass
    assert recorded(run).data.tags["mlflow.parentRunId"] == parent.run_id
    assert recorded(parent).info.status == "RUNNING"


def test_child_moves_to_a_new_parent() -> None:
    first, second = start(), start()
    run = child(first)
    moved = tracking.resume_run(run.run_id)
    moved.set_parent(second.run_id)
    with pytest.raises(KeyError), moved:
        raise KeyError("x")
    assert recorded(run).data.tags["mlflow.parentRunId"] == second.run_id
    assert (recorded(first).info.status, recorded(second).info.status) == ("KILLED", "FAILED")


def test_finished_parent_keeps_its_status_when_a_child_moves() -> None:
    second = start()
    with start() as first:
        run = child(first)
    tracking.resume_run(run.run_id).set_parent(second.run_id)
    assert recorded(first).info.status == "FINISHED"


def test_failed_child_fails_its_parent_until_both_are_resumed() -> None:
    parent = start()
    with pytest.raises(ValueError, match="NaN"), child(parent) as run:
        error = ValueError("loss is NaN")
        error.add_note("This was fold 3.")
        raise error
    for each in (parent, run):
        assert recorded(each).info.status == "FAILED"
        assert recorded(each).data.tags["failure"] == "ValueError: loss is NaN This was fold 3."
    with tracking.resume_run(run.run_id):
        pass
    with tracking.resume_run(parent.run_id):
        pass
    assert {recorded(each).info.status for each in (parent, run)} == {"FINISHED"}
    assert "failure" not in recorded(parent).data.tags


def test_missing_run_cannot_be_resumed() -> None:
    with pytest.raises(tracking.TrackingError, match="the run 'nowhere' does not exist, or was deleted"):
        tracking.resume_run("nowhere")
    assert tracking.find_run("nowhere") is None


def test_deleted_run_cannot_be_resumed() -> None:
    run = start()
    tracking.connect().client.delete_run(run.run_id)
    with pytest.raises(tracking.TrackingError, match=f"{run.run_id}' does not exist, or was deleted"):
        tracking.resume_run(run.run_id)
    assert tracking.find_run(run.run_id) is None


def test_missing_parent_is_refused() -> None:
    alone, gone = start(), start()
    tracking.connect().client.delete_run(gone.run_id)
    before = len(mlflow.search_runs(search_all_experiments=True, output_format="list"))
    for parent in ("nowhere", gone.run_id):
        with pytest.raises(tracking.TrackingError, match=f"the parent run '{parent}' does not exist, or was deleted"):
            tracking.start_run("a child", {}, {}, LINEAGE, parent=parent)
        with pytest.raises(tracking.TrackingError, match=f"the parent run '{parent}' does not exist"):
            alone.set_parent(parent)
    assert len(mlflow.search_runs(search_all_experiments=True, output_format="list")) == before


@pytest.mark.parametrize("part", ["log_params", "log_dataset"])
def test_run_fails_when_its_parameters_or_data_cannot_be_logged(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: tracking.Run, _: object) -> None:
        raise tracking.TrackingError(f"{part} refused")

    monkeypatch.setattr(tracking.Run, part, refuse)
    with pytest.raises(tracking.TrackingError, match=f"{part} refused"):
        start()
    (run,) = mlflow.search_runs(search_all_experiments=True, output_format="list", max_results=1)
    assert run.info.status == "FAILED" and f"{part} refused" in run.data.tags["failure"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_metric_that_is_not_finite_is_refused(value: float) -> None:
    with pytest.raises(tracking.TrackingError, match=r"'train_loss' is (nan|inf) at step 7"):
        start().log_metrics({"train_loss": value}, step=7)


def test_artifacts_are_next_to_the_database_and_replaced(tmp_path: Path) -> None:
    run, frame = start(), pd.DataFrame({"class": ["dog"], "f1": [0.5]})
    for _ in range(2):
        run.log_table(frame, "tables/classes.json")
    run.log_text("# card", "card.md")
    got = Path(mlflow.artifacts.download_artifacts(run_id=run.run_id, dst_path=str(tmp_path)))
    assert (got / "card.md").read_text() == "# card"
    table = tracking.connect().client.load_table(recorded(run).info.experiment_id, "tables/classes.json", [run.run_id])
    assert len(table) == 1
    database = Path(os.environ["MLFLOW_TRACKING_URI"].removeprefix("sqlite:///"))
    assert recorded(run).info.artifact_uri.startswith(database.with_name("mlflow-artifacts").as_uri())
