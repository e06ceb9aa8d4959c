"""Runs of Kubeflow tasks on a real MLflow server, with and without the MLflow plugin of Kubeflow Pipelines."""

from dataclasses import dataclass

import mlflow
import pytest
from helpers.mlflow import LINEAGE, recorded, start

from mlops import tracking
from mlops.kubeflow_run import MLFLOW_EXPERIMENT_ID, MLFLOW_RUN_ID, RUN_ID, RUN_URL, set_kubeflow_run

pytestmark = pytest.mark.xdist_group("mlflow")
UI = "https://kubeflow.example.org/"


@dataclass
class Plugin:
    """What KFP's MLflow plugin does: one MLflow run for the Kubeflow run, and a nested one for each of its tasks."""

    client: mlflow.MlflowClient
    experiment: str
    pipeline_run: str

    def start_task(self, name: str, patch: pytest.MonkeyPatch) -> str:
        """Create the run of a task and set its variables."""
        tags = {"mlflow.parentRunId": self.pipeline_run}
        run_id = str(self.client.create_run(self.experiment, tags=tags, run_name=name).info.run_id)
        patch.setenv(MLFLOW_RUN_ID, run_id)
        patch.setenv(MLFLOW_EXPERIMENT_ID, self.experiment)
        return run_id

    def status(self, run_id: str) -> str:
        return str(self.client.get_run(run_id).info.status)


@pytest.fixture
def task(mlflow_server: str, monkeypatch: pytest.MonkeyPatch) -> mlflow.MlflowClient:
    """Make this process a task of a Kubeflow run, and return a client of its MLflow server."""
    for name in (RUN_ID, RUN_URL, MLFLOW_RUN_ID, MLFLOW_EXPERIMENT_ID):
        monkeypatch.setenv(name, "")  # restored at the end, whatever the test sets
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    set_kubeflow_run("5c2f", UI)
    return mlflow.MlflowClient(mlflow_server)


@pytest.fixture
def plugin(task: mlflow.MlflowClient) -> Plugin:
    found = task.get_experiment_by_name("KFP-Default")
    experiment = str(found.experiment_id if found else task.create_experiment("KFP-Default"))
    return Plugin(task, experiment, str(task.create_run(experiment, run_name="run of a pipeline").info.run_id))


def test_without_the_plugin_a_run_is_new_and_names_the_kubeflow_run(task: mlflow.MlflowClient) -> None:
    with start() as run:
        run.log_metrics({"loss": 0.5})
    kept = recorded(run)
    assert kept.data.tags["kfp.pipeline_run_id"] == "5c2f"
    assert kept.data.tags["kfp.pipeline_run_url"] == "https://kubeflow.example.org/#/runs/details/5c2f"
    assert task.get_experiment(kept.info.experiment_id).name == "audiocnn"
    assert "mlflow.parentRunId" not in kept.data.tags


def test_with_the_plugin_a_task_logs_into_its_run(plugin: Plugin, monkeypatch: pytest.MonkeyPatch) -> None:
    given = plugin.start_task("train", monkeypatch)
    with start() as run:
        run.log_metrics({"loss": 0.5})
    assert run.run_id == given
    kept = recorded(run)
    assert (kept.info.run_name, kept.info.status, kept.info.experiment_id) == ("a run", "FINISHED", plugin.experiment)
    assert kept.data.params["train.epochs"] == "3" and kept.data.metrics["loss"] == 0.5
    assert kept.data.tags["note"] == "x" and kept.data.tags["kfp.pipeline_run_id"] == "5c2f"
    assert kept.data.tags["mlflow.parentRunId"] == plugin.pipeline_run


def test_a_failed_task_leaves_the_end_of_the_pipeline_to_the_plugin(
    plugin: Plugin, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = plugin.start_task("train", monkeypatch)
    with pytest.raises(ZeroDivisionError), start():
        raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError), tracking.resume_run(given):
        raise ZeroDivisionError
    assert (plugin.status(given), plugin.status(plugin.pipeline_run)) == ("FAILED", "RUNNING")


def test_trainings_of_a_plan_are_nested_in_the_run_of_the_plan(plugin: Plugin, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plugin.start_task("plan-trials", monkeypatch)
    start()
    training = plugin.start_task("train", monkeypatch)
    run = tracking.start_run("fold 1", {}, {}, LINEAGE, parent=plan)
    assert run.run_id == training and recorded(run).data.tags["mlflow.parentRunId"] == plan
    assert plugin.status(plugin.pipeline_run) == "RUNNING"


def test_a_run_of_another_server_is_not_joined(
    task: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(MLFLOW_RUN_ID, "0" * 32)
    run = start()
    assert run.run_id != "0" * 32 and recorded(run).data.tags["kfp.pipeline_run_id"] == "5c2f"
    assert f"has no run {'0' * 32}, which Kubeflow created; a new one is used" in capsys.readouterr().out


def test_outside_of_kubeflow_a_given_run_is_not_joined(plugin: Plugin, monkeypatch: pytest.MonkeyPatch) -> None:
    given = plugin.start_task("train", monkeypatch)
    set_kubeflow_run("", UI)
    run = start()
    assert run.run_id != given and not [tag for tag in recorded(run).data.tags if tag.startswith("kfp.")]
    assert recorded(run).info.experiment_id == plugin.experiment, "MLFLOW_EXPERIMENT_ID counts everywhere"
