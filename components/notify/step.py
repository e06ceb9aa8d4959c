"""Report a failed Kubeflow run to a webhook: the failed task, the reason and a link."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from audiocnn.strict_model import SettingsError
from mlops.cluster import WEBHOOK_VARIABLE
from mlops.cluster_settings import KubeflowSettings
from mlops.kubeflow_run import run_url
from mlops.provenance import ROOT
from mlops.run_parameters import resolve_parameters
from mlops.settings import PARAMS, is_http_address, resolve

TIMEOUT = (5, 10)  # seconds to connect, and to wait for the answer
ENDED_WELL = ("SUCCEEDED", "COMPLETE", "CACHED", "SKIPPED")  # the names of Kubeflow 2 and of its metadata store
CANCELED = ("CANCELED", "CANCELLED", "CANCELING")
# In a multi-user Kubeflow the API requires the token that a PodDefault mounts here.
TOKEN = Path("/var/run/secrets/kubeflow/pipelines/token")


@dataclass(frozen=True)
class Failure:
    """The failed task of a run, by its name in the graph, and the reason; empty where they are not known."""

    task: str = ""
    reason: str = ""


def notify(state: str, message: str, recipe: str, overrides: Mapping[str, Any], run_id: str, run_name: str) -> None:
    """Post a message about a failed run to the webhook, and print what was done. Never raises an exception.

    Args:
        state: of the pipeline's tasks at their end, as Kubeflow names it.
        message: Kubeflow's reason for the state; often empty.
        recipe, overrides: parameters of the run.
    """
    webhook = os.environ.get(WEBHOOK_VARIABLE, "").strip()
    if not webhook or state in ENDED_WELL + CANCELED:
        print(
            f"[notify] nothing to report: the state is {state}, {'a' if webhook else 'no'} webhook is set", flush=True
        )
        return
    try:
        settings = _settings(recipe, overrides)
        failure = find_failure(settings.api, run_id)
        if state != "FAILED" and not failure.task:  # older Kubeflow calls tasks that ended well RUNNING
            print(f"[notify] nothing to report: the state is {state}, and no task failed", flush=True)
            return
        text = failure_text(run_name, failure, message, run_url(settings.ui, run_id))
        if not is_http_address(webhook):
            raise ValueError("the webhook is not a URL")
        requests.post(webhook, json={"text": text}, timeout=TIMEOUT).raise_for_status()
    except Exception as error:  # noqa: BLE001  a notice must not make a run fail
        # The message of the exception may contain the webhook's URL, which is a secret.
        print(f"[notify] the failure could not be reported: {type(error).__name__}", flush=True)
    else:
        print(f"[notify] reported: {text}", flush=True)


def failure_text(run_name: str, failure: Failure, message: str, url: str) -> str:
    """Return the message for people."""
    task = f" in the task {failure.task}" if failure.task else ""
    reason = failure.reason or message or "the reason is in the log of the task"
    return f"Kubeflow run {run_name} failed{task}: {reason}" + (f"\n{url}" if url else "")


def find_failure(api: str, run_id: str) -> Failure:
    """Ask the Kubeflow Pipelines API for the failed task of a run."""
    headers = {"Authorization": f"Bearer {TOKEN.read_text().strip()}"} if TOKEN.is_file() else {}
    try:
        answer = requests.get(f"{api.rstrip('/')}/apis/v2beta1/runs/{run_id}", headers=headers, timeout=TIMEOUT)
        answer.raise_for_status()
        tasks = answer.json()["run_details"]["task_details"]
        return failed_task(tasks)
    except (requests.RequestException, ValueError, KeyError, TypeError) as error:
        print(f"[notify] {api}: the API does not tell the failed task: {type(error).__name__}", flush=True)
        return Failure()


def failed_task(tasks: Sequence[Mapping[str, Any]]) -> Failure:
    """Return the first failed task that contains no other failed one.

    Args:
        tasks: the run's `task_details` in the API.
    """
    failed = [task for task in tasks if task.get("state") == "FAILED"]
    parents = {task.get("parent_task_id") for task in failed}
    innermost = [task for task in failed if task.get("task_id") not in parents]
    if not innermost:
        return Failure()
    by_id = {task.get("task_id"): task for task in tasks}
    first = min(innermost, key=lambda task: str(task.get("end_time", "")))
    named: Mapping[str, Any] | None = first
    while named and _is_internal(str(named.get("display_name", ""))):
        named = by_id.get(named.get("parent_task_id"))
    reason = str((first.get("error") or {}).get("message", ""))
    return Failure(str(named.get("display_name", "")) if named else "", reason)


def _is_internal(name: str) -> bool:
    """Return whether Kubeflow added a task to run another one: the executor and the driver of a task."""
    return name == "executor" or name.endswith("-driver")


def _settings(recipe: str, overrides: Mapping[str, Any]) -> KubeflowSettings:
    try:
        return resolve_parameters(recipe, overrides).block("kubeflow", KubeflowSettings)
    except SettingsError:  # perhaps the reason of the failure
        return resolve(ROOT / PARAMS).block("kubeflow", KubeflowSettings)
