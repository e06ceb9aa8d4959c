"""Report a failed Kubeflow run to a webhook: the failed task, the reason and a link."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import requests

from audiocnn.strict_model import SettingsError
from mlops.cluster import WEBHOOK_VARIABLE
from mlops.cluster_settings import KubeflowSettings
from mlops.kubeflow_run import DRIVER, SERVICE_ACCOUNT_TOKEN, run_url
from mlops.provenance import ROOT
from mlops.run_parameters import resolve_parameters
from mlops.settings import PARAMS, resolve

TIMEOUT = (5, 10)  # seconds to connect, and to wait for the answer
FAILED = "FAILED"
CANCELED = ("CANCELED", "CANCELING")


@dataclass(frozen=True)
class FinishedRun:
    """A Kubeflow run whose tasks have ended.

    Attributes:
        state: as Kubeflow reports it to exit handlers; older versions report RUNNING when tasks have failed.
        message: Kubeflow's reason for the state; often empty.
    """

    id: str
    name: str
    state: str
    message: str


@dataclass(frozen=True)
class Failure:
    """The title of the failed task and the reason; empty where they are not known."""

    task: str = ""
    reason: str = ""


def notify(run: FinishedRun, titles: Mapping[str, str], recipe: str, overrides: Mapping[str, Any]) -> None:
    """Post a message about a failed run to the webhook, and print what was done. Never raises an exception.

    Args:
        titles: of the tasks, by their names in the graph.
    """
    webhook = os.environ.get(WEBHOOK_VARIABLE, "").strip()
    if not webhook:
        print("[notify] no webhook is set", flush=True)
        return
    try:
        settings = _settings(recipe, overrides)
        failure = find_failure(settings.api, run, titles)
        if failure is None:
            print(f"[notify] nothing to report: the state of the run is {run.state}", flush=True)
            return
        text = failure_text(run, failure, run_url(settings.ui, run.id))
        requests.post(webhook, json={"text": text}, timeout=TIMEOUT).raise_for_status()
        print(f"[notify] reported: {text}", flush=True)
    except Exception as error:  # noqa: BLE001  a failed notification must not make a run fail
        # The message of the exception may contain the webhook's URL, which is a secret.
        print(f"[notify] the failure could not be reported: {type(error).__name__}", flush=True)


def failure_text(run: FinishedRun, failure: Failure, url: str) -> str:
    task = f" in the task {failure.task!r}" if failure.task else ""
    reason = failure.reason or run.message or "Kubeflow gives no reason; the log of the task has it"
    return f"Kubeflow run {run.name} failed{task}: {reason}" + (f"\n{url}" if url else "")


def find_failure(api: str, run: FinishedRun, titles: Mapping[str, str]) -> Failure | None:
    """Return the failure of a run, or None if no task failed or the run was canceled.

    Args:
        api: address of the Kubeflow Pipelines API. If it does not answer, only the state of the run counts.
    """
    unknown = Failure() if run.state == FAILED else None
    token = SERVICE_ACCOUNT_TOKEN
    try:
        headers = {"Authorization": f"Bearer {token.read_text().strip()}"} if token.is_file() else {}
        answer = requests.get(f"{api.rstrip('/')}/apis/v2beta1/runs/{run.id}", headers=headers, timeout=TIMEOUT)
        answer.raise_for_status()
        reported = answer.json()
        if reported.get("state") in CANCELED:
            return None
        nodes = reported["run_details"]["task_details"]
        failed = [node for node in nodes if node.get("state") == FAILED and _name(node) in titles]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        print(f"[notify] {api}: the failed task is not known: {type(error).__name__}", flush=True)
        return unknown
    if not failed:
        return unknown
    first = min(failed, key=lambda node: str(node.get("end_time", "")))
    return Failure(titles[_name(first)], _reason(first))


def _name(node: Mapping[str, Any]) -> str:
    return str(node.get("display_name", "")).removesuffix(DRIVER)


def _reason(node: Mapping[str, Any]) -> str:
    """Return the error of a node in one line; empty if the API has none."""
    statuses = [node, *reversed(node.get("state_history") or ())]
    messages = (str((status.get("error") or {}).get("message", "")) for status in statuses)
    return " ".join(next(filter(None, messages), "").split())


def _settings(recipe: str, overrides: Mapping[str, Any]) -> KubeflowSettings:
    try:
        return resolve_parameters(recipe, overrides).block("kubeflow", KubeflowSettings)
    except SettingsError:  # perhaps the reason of the failure
        return resolve(ROOT / PARAMS).block("kubeflow", KubeflowSettings)
