"""What the MLflow plugin of Kubeflow Pipelines does, on a real MLflow server."""

from dataclasses import dataclass

import mlflow
import pytest

from mlops.kubeflow_run import MLFLOW_EXPERIMENT_ID, MLFLOW_RUN_ID, RUN_ID, RUN_URL, set_kubeflow_run

UI = "https://kubeflow.example.org/"


@dataclass
class MLflowPlugin:
    """One MLflow run for a Kubeflow run, and a nested one for each of its tasks."""

    client: mlflow.MlflowClient
    experiment: str
    pipeline_run: str

    def start_task(self, name: str, patch: pytest.MonkeyPatch) -> str:
        """Create the run of a task, set its variables and return its id."""
        tags = {"mlflow.parentRunId": self.pipeline_run}
        run_id = str(self.client.create_run(self.experiment, tags=tags, run_name=name).info.run_id)
        patch.setenv(MLFLOW_RUN_ID, run_id)
        patch.setenv(MLFLOW_EXPERIMENT_ID, self.experiment)
        return run_id

    def status(self, run_id: str) -> str:
        return str(self.client.get_run(run_id).info.status)


@pytest.fixture
def kubeflow_task(mlflow_server: str, monkeypatch: pytest.MonkeyPatch) -> mlflow.MlflowClient:
    """Make this process a task of a Kubeflow run, and return a client of its MLflow server."""
    for name in (RUN_ID, RUN_URL, MLFLOW_RUN_ID, MLFLOW_EXPERIMENT_ID):
        monkeypatch.setenv(name, "")  # restored at the end, whatever the test sets
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    set_kubeflow_run("5c2f", UI)
    return mlflow.MlflowClient(mlflow_server)


@pytest.fixture
def mlflow_plugin(kubeflow_task: mlflow.MlflowClient) -> MLflowPlugin:
    found = kubeflow_task.get_experiment_by_name("KFP-Default")
    experiment = str(found.experiment_id if found else kubeflow_task.create_experiment("KFP-Default"))
    run = kubeflow_task.create_run(experiment, run_name="run of a pipeline")
    return MLflowPlugin(kubeflow_task, experiment, str(run.info.run_id))
