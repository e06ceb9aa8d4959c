"""The state of a run and of its steps, from the nodes that the API lists."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import kfp_server_api as kfp
import pytest
import yaml
from helpers.kfp_api import LATER, NOW, task, tasks

from pipeline.compile import CROSSVAL, TRAINING
from pipeline.kubeflow.run_state import RunState, StepState, run_state, step_titles

START = datetime(2026, 1, 1, tzinfo=UTC)
TITLES = {"ingest": "Ingest clips", "train": "Train", "deploy": "Deploy to TorchServe"}


def state_of(state: str, nodes: list[dict[str, Any]], **fields: Any) -> RunState:
    """Return the state of a run, read from JSON as the client does, one minute after its start."""
    body = {"run_id": "r1", "display_name": "demo", "state": state, "created_at": NOW, **fields}
    body["run_details"] = {"task_details": nodes}
    response = type("Response", (), {"data": json.dumps(body)})
    run = kfp.ApiClient().deserialize(response, "V2beta1Run")
    return run_state(run, TITLES, START + timedelta(minutes=1))


def steps_of(state: str, **nodes: str) -> dict[str, StepState]:
    return {step.name: step for step in state_of(state, tasks(**nodes)).steps}


def test_steps_are_the_tasks_of_the_pipeline_in_their_order() -> None:
    training = [*step_titles(next(yaml.safe_load_all(TRAINING.read_text(encoding="utf-8"))))]
    wanted = ["ingest", "spectrogram-shard", "spectrograms", "train", "evaluate", "register", "promote", "deploy"]
    assert [name for name in training if name in wanted] == wanted
    crossval = [*step_titles(next(yaml.safe_load_all(CROSSVAL.read_text(encoding="utf-8"))))]
    wanted = ["spectrograms", "plan-trials", "train", "evaluate", "aggregate"]
    assert [name for name in crossval if name in wanted] == wanted


def test_a_run_that_has_not_started() -> None:
    state = state_of("PENDING", [])
    assert not state.ended and state.seconds == 60
    assert {step.state for step in state.steps} == {"waiting"} and not any(step.seconds for step in state.steps)


def test_a_running_step() -> None:
    steps = steps_of("RUNNING", ingest="SUCCEEDED", train="RUNNING")
    assert {name: (step.state, step.seconds) for name, step in steps.items()} == {
        "ingest": ("done", 130.0),
        "train": ("running", 60.0),
        "deploy": ("waiting", 0.0),
    }


def test_a_step_in_a_loop_has_one_state() -> None:
    nodes = [task("train", state) for state in ("SUCCEEDED", "RUNNING", "PENDING")]
    (train,) = [step for step in state_of("RUNNING", nodes).steps if step.name == "train"]
    assert (train.state, train.done, train.count) == ("running", 1, 3)
    nodes[1:] = [task("train", "PENDING")]
    assert state_of("RUNNING", nodes).steps[1].state == "running"
    assert state_of("RUNNING", [task("train", "SUCCEEDED")] * 2).steps[1].state == "done"


def test_a_failed_step_has_reason_and_pod_if_the_api_has_them() -> None:
    error = {"code": 13, "message": "OOMKilled\n(exit code 137)"}
    nodes = [*tasks(ingest="SUCCEEDED"), task("train", "FAILED", error=error, pod_name="training-x7k2p-4711")]
    state = state_of("FAILED", nodes, finished_at=LATER)
    (failed,) = state.failed_steps
    assert (failed.name, failed.title) == ("train", "Train")
    assert (failed.reason, failed.pod) == ("OOMKilled (exit code 137)", "training-x7k2p-4711")
    assert state.ended and state.seconds == 130 and state.steps[2].state == "skipped"


def test_the_reason_may_be_in_the_history() -> None:
    history = [{"update_time": NOW, "state": "RUNNING"}, {"state": "FAILED", "error": {"message": "evicted"}}]
    assert state_of("FAILED", [task("train", "FAILED", state_history=history)]).failed_steps[0].reason == "evicted"
    assert state_of("FAILED", [], error={"message": "no such claim"}).reason == "no such claim"


def test_a_step_that_could_not_be_prepared_has_failed() -> None:
    state = state_of("FAILED", [task("ingest", "SUCCEEDED"), task("train-driver", "FAILED")])
    assert [step.name for step in state.failed_steps] == ["train"]


def test_a_canceled_run_has_no_failed_step() -> None:
    for run, nodes in (("CANCELING", {"train": "RUNNING"}), ("CANCELED", {"train": "FAILED"})):
        steps = steps_of(run, ingest="SUCCEEDED", **nodes)
        assert (steps["ingest"].state, steps["train"].state) == ("done", "interrupted")
    assert steps["deploy"].state == "skipped"


@pytest.mark.parametrize("run", ["RUNNING", "SUCCEEDED"])
def test_a_step_behind_a_condition_that_is_false_is_skipped(run: str) -> None:
    assert steps_of(run, deploy="SKIPPED")["deploy"].state == "skipped"
