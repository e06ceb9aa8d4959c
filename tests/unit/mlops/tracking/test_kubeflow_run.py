"""Runs of Kubeflow tasks on a real MLflow server, with and without the MLflow plugin of Kubeflow Pipelines."""

import mlflow
import pytest
from helpers.mlflow import LINEAGE, recorded, start
from helpers.mlflow_plugin import UI, MLflowPlugin

from mlops import tracking
from mlops.kubeflow_run import MLFLOW_RUN_ID, set_kubeflow_run

pytestmark = pytest.mark.xdist_group("mlflow")


def test_without_the_plugin_a_run_is_new_and_names_the_kubeflow_run(kubeflow_task: mlflow.MlflowClient) -> None:
    with start() as run:
        run.log_metrics({"loss": 0.5})
    kept = recorded(run)
    assert kept.data.tags["kfp.pipeline_run_id"] == "5c2f"
    assert kept.data.tags["kfp.pipeline_run_url"] == "https://kubeflow.example.org/#/runs/details/5c2f"
    assert kubeflow_task.get_experiment(kept.info.experiment_id).name == "audiocnn"
    assert "mlflow.parentRunId" not in kept.data.tags


def test_with_the_plugin_a_task_logs_into_its_run(mlflow_plugin: MLflowPlugin, monkeypatch: pytest.MonkeyPatch) -> None:
    given = mlflow_plugin.start_task("train", monkeypatch)
    with start() as run:
        run.log_metrics({"loss": 0.5})
    assert run.run_id == given
    kept = recorded(run)
    assert (kept.info.run_name, kept.info.status, kept.info.experiment_id) == (
        f"a run {given[:6]}",
        "FINISHED",
        mlflow_plugin.experiment,
    )
    assert kept.data.params["train.epochs"] == "3" and kept.data.metrics["loss"] == 0.5
    assert kept.data.tags["note"] == "x" and kept.data.tags["kfp.pipeline_run_id"] == "5c2f"
    assert kept.data.tags["mlflow.parentRunId"] == mlflow_plugin.pipeline_run


def test_a_failed_task_leaves_the_end_of_the_pipeline_to_the_plugin(
    mlflow_plugin: MLflowPlugin, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = mlflow_plugin.start_task("train", monkeypatch)
    with pytest.raises(ZeroDivisionError), start():
        raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError), tracking.resume_run(given):
        raise ZeroDivisionError
    assert (mlflow_plugin.status(given), mlflow_plugin.status(mlflow_plugin.pipeline_run)) == ("FAILED", "RUNNING")


def test_trainings_of_a_plan_are_nested_in_the_run_of_the_plan(
    mlflow_plugin: MLflowPlugin, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = mlflow_plugin.start_task("plan-trials", monkeypatch)
    start()
    training = mlflow_plugin.start_task("train", monkeypatch)
    run = tracking.start_run("fold 1", {}, {}, LINEAGE, parent=plan)
    assert run.run_id == training and recorded(run).data.tags["mlflow.parentRunId"] == plan
    assert mlflow_plugin.status(mlflow_plugin.pipeline_run) == "RUNNING"


def test_a_run_of_another_server_is_not_joined(
    kubeflow_task: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(MLFLOW_RUN_ID, "0" * 32)
    run = start()
    assert run.run_id != "0" * 32 and recorded(run).data.tags["kfp.pipeline_run_id"] == "5c2f"
    assert f"has no run {'0' * 32}, which Kubeflow created; a new one is used" in capsys.readouterr().out


def test_outside_of_kubeflow_a_given_run_is_not_joined(
    mlflow_plugin: MLflowPlugin, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = mlflow_plugin.start_task("train", monkeypatch)
    set_kubeflow_run("", UI)
    run = start()
    assert run.run_id != given and not [tag for tag in recorded(run).data.tags if tag.startswith("kfp.")]
    assert recorded(run).info.experiment_id == mlflow_plugin.experiment, "MLFLOW_EXPERIMENT_ID counts everywhere"
