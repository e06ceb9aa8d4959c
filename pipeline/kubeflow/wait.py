"""Wait for the end of a run, and show its steps meanwhile."""

import time

from rich.console import Console
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_fixed

from pipeline.display import Display
from pipeline.kubeflow.client import KubeflowClient
from pipeline.kubeflow.errors import KubeflowError
from pipeline.kubeflow.run_state import RunState, StepState, run_state, step_titles

INTERVAL = 5.0  # s, between two requests
OUTAGE = 600.0  # s, how long the API may be unavailable


def wait_for_run(client: KubeflowClient, run_id: str, console: Console) -> RunState:
    """Return the final state of a run.

    Raises:
        KubeflowError: the API refuses a request, or was unavailable for too long. The run goes on.
    """
    retrying = Retrying(
        retry=retry_if_exception(lambda error: isinstance(error, KubeflowError) and error.temporary),
        stop=stop_after_delay(OUTAGE),
        wait=wait_fixed(INTERVAL),
        reraise=True,
    )
    run = retrying(client.run, run_id)
    titles = step_titles(retrying(client.pipeline_spec, run))
    with Display(titles, console) as display:
        while True:
            state = run_state(run, titles)
            for step in state.steps:
                _show(display, step)
            if state.ended:
                return state
            time.sleep(INTERVAL)
            run = retrying(client.run, run_id)


def _show(display: Display, step: StepState) -> None:
    shown = display.steps[step.name]
    if step.count > 1:
        shown.message = f"{step.done} of {step.count} done"
    if step.state == shown.state:
        return
    if step.state in ("waiting", "skipped"):
        shown.state = step.state
        return
    if shown.state != "running":
        display.start(step.name)
    shown.started = time.monotonic() - step.seconds  # by the cluster's clock
    if step.state != "running":
        display.end(step.name, step.state)
