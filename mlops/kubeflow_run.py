"""The Kubeflow run that this process belongs to, if any; it becomes tags of MLflow runs and model versions."""

import os

RUN_ID, RUN_URL = "AUDIOCNN_KFP_RUN_ID", "AUDIOCNN_KFP_RUN_URL"  # environment variables
TAGS = {"kfp.pipeline_run_id": RUN_ID, "kfp.pipeline_run_url": RUN_URL}  # named like the tags of KFP's MLflow plugin


def set_kubeflow_run(run_id: str, ui: str) -> None:
    """Record the run's id, and its address if that of Kubeflow's pages is known, for this process and its children."""
    os.environ[RUN_ID] = run_id
    os.environ[RUN_URL] = run_url(ui, run_id)


def run_url(ui: str, run_id: str) -> str:
    """Return the address of a run's page; empty if that of Kubeflow's pages is."""
    return f"{ui.rstrip('/')}/#/runs/details/{run_id}" if ui else ""


def in_kubeflow() -> bool:
    """Return whether a Kubeflow run is recorded."""
    return bool(os.environ.get(RUN_ID))


def kubeflow_tags() -> dict[str, str]:
    """Return the tags of the recorded run; none outside of Kubeflow."""
    return {tag: value for tag, variable in TAGS.items() if (value := os.environ.get(variable))}
