"""The Kubeflow run that this process belongs to, if any; it becomes tags of MLflow runs and versions."""

import os
from pathlib import Path

RUN_ID, RUN_URL = "AUDIOCNN_KFP_RUN_ID", "AUDIOCNN_KFP_RUN_URL"  # environment variables
MLFLOW_RUN_ID, MLFLOW_EXPERIMENT_ID = "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID"  # set by KFP's MLflow plugin
DRIVER = "-driver"  # what Kubeflow appends to the name of a task for the pod that prepares it
# Where Kubeflow mounts the token that its API requires of pods if there are several users.
SERVICE_ACCOUNT_TOKEN = Path("/var/run/secrets/kubeflow/pipelines/token")
RUN_TAG, URL_TAG = "kfp.pipeline_run_id", "kfp.pipeline_run_url"  # of MLflow runs, named as by KFP's MLflow plugin
TAGS = {RUN_TAG: RUN_ID, URL_TAG: RUN_URL}


def set_kubeflow_run(run_id: str, ui: str) -> None:
    """Record the run's id, and its address if that of Kubeflow's pages is known, for this process and its children."""
    os.environ[RUN_ID] = run_id
    os.environ[RUN_URL] = run_url(ui, run_id) if run_id else ""


def run_url(ui: str, run_id: str) -> str:
    """Return the address of a run's page; empty if that of Kubeflow's pages is."""
    return f"{ui.rstrip('/')}/#/runs/details/{run_id}" if ui else ""


def given_mlflow_run() -> str:
    """Return the id of the MLflow run that KFP's MLflow plugin created for this task; empty without the plugin.

    Outside of Kubeflow, where one process may train several times, MLFLOW_RUN_ID is ignored.
    """
    return os.environ.get(MLFLOW_RUN_ID, "") if os.environ.get(RUN_ID) else ""


def kubeflow_tags() -> dict[str, str]:
    return {tag: value for tag, variable in TAGS.items() if (value := os.environ.get(variable))}


def inherited_variables() -> dict[str, str]:
    """Return the variables of this process that the pods it starts need too."""
    names = (RUN_ID, RUN_URL, MLFLOW_RUN_ID, MLFLOW_EXPERIMENT_ID)
    return {name: value for name in names if (value := os.environ.get(name))}
