"""The state of a run and of its steps, from what the Kubeflow Pipelines API reports of them.

The API lists the nodes of the Argo workflow behind a run, without order. Among them are helpers such as `train-driver`
and `executor`; the nodes that carry the name of a task in the compiled pipeline are its steps. A task within a loop
has one node for each iteration.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from graphlib import TopologicalSorter
from typing import Any

from mlops.kubeflow_run import DRIVER
from pipeline.display import State

SUCCEEDED, FAILED, CANCELED, SKIPPED = "SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"
ENDED = (SUCCEEDED, FAILED, CANCELED, SKIPPED)
ACTIVE = ("RUNNING", "PAUSED", "CANCELING")
NO_REASON = "Kubeflow gives none; the log has it"


@dataclass(frozen=True)
class StepState:
    """One step of a run.

    Attributes:
        name: its key in the compiled pipeline, as steps print it.
        title: its name in the Kubeflow UI.
        done, count: completed and known iterations, if the step is in a loop.
        seconds: from its start to its end, or to now.
        reason: why it failed, if the API says it.
        pod: the pod of the failed node, if the API names it.
    """

    name: str
    title: str
    state: State
    done: int
    count: int
    seconds: float
    reason: str = ""
    pod: str = ""


@dataclass(frozen=True)
class RunState:
    """A run. `state` is that of the API, such as RUNNING or SUCCEEDED."""

    id: str
    name: str
    state: str
    created: datetime | None
    seconds: float
    reason: str
    steps: tuple[StepState, ...]

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    @property
    def failed_steps(self) -> list[StepState]:
        return [step for step in self.steps if step.state == "failed"]


def step_titles(spec: Mapping[str, Any]) -> dict[str, str]:
    """Return the titles of the tasks that run in containers, by key, in the order in which they can run.

    Args:
        spec: a compiled pipeline; without `root` if the server does not have it any more, or it is one of KFP 1.
    """

    def visit(tasks: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        order = TopologicalSorter({key: task.get("dependentTasks", ()) for key, task in sorted(tasks.items())})
        for key in order.static_order():
            component = spec["components"][tasks[key]["componentRef"]["name"]]
            if "dag" in component:
                yield from visit(component["dag"]["tasks"])
            else:
                yield key, tasks[key]["taskInfo"]["name"]

    return dict(visit(spec["root"]["dag"]["tasks"])) if "root" in spec else {}


def run_state(run: Any, titles: Mapping[str, str] | None = None, now: datetime | None = None) -> RunState:
    """Return the state of a run (V2beta1Run).

    Args:
        titles: those of its steps; without them, no steps are returned.
    """
    now = now or datetime.now(UTC)
    nodes = (run.run_details and run.run_details.task_details) or ()
    state = run.state or "PENDING"
    steps = (_step(key, title, nodes, state, now) for key, title in (titles or {}).items())
    seconds = _seconds(run.created_at, run.finished_at if state in ENDED else None, now)
    return RunState(run.run_id, run.display_name or "", state, run.created_at, seconds, _reason(run), tuple(steps))


def _step(name: str, title: str, nodes: Sequence[Any], run_state: str, now: datetime) -> StepState:
    own = [node for node in nodes if node.display_name == name]
    failed = [node for node in nodes if node.display_name in (name, name + DRIVER) and node.state == FAILED]
    done = sum(node.state == SUCCEEDED for node in own)
    state = _merge([node.state for node in (*own, *failed)], run_state)
    started = min((node.start_time for node in own if node.start_time), default=None)
    ended = max((node.end_time for node in own if node.end_time), default=None)
    seconds = _seconds(started, None if state == "running" else ended, now)
    reason = next(filter(None, map(_reason, failed)), "")
    pod = next((node.pod_name for node in failed if node.pod_name), "")
    return StepState(name, title, state, done, len(own), seconds, reason, pod)


def _merge(states: Sequence[str], run_state: str) -> State:
    """Return one state for all iterations of a step."""
    canceled = run_state in (CANCELED, "CANCELING")  # then, Kubeflow marks running nodes as failed
    if not canceled and FAILED in states:
        return "failed"
    if not {FAILED, CANCELED, *ACTIVE}.isdisjoint(states):
        return "interrupted" if canceled else "running"
    if states and set(states) <= {SUCCEEDED, SKIPPED}:
        return "done" if SUCCEEDED in states else "skipped"
    if run_state in ENDED:
        return "skipped"
    return "running" if SUCCEEDED in states else "waiting"


def _reason(reported: Any) -> str:
    """Return the error of a run or a node in one line; empty if the API has none."""
    history = [status.error for status in reversed(reported.state_history or ())]
    messages = (error.message for error in (reported.error, *history) if error is not None)
    return " ".join(next(filter(None, messages), "").split())


def _seconds(start: datetime | None, end: datetime | None, now: datetime) -> float:
    """Return the time between two moments; zero if it has not begun. A moment before `start` is not known yet."""
    if start is None or start.timestamp() <= 0:
        return 0.0
    last = end if end is not None and end >= start else now
    return max(0.0, (last - start).total_seconds())
