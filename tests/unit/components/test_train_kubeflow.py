"""Training in a Kubeflow task whose MLflow run was created by KFP's MLflow plugin."""

import pytest
from helpers.mlflow_plugin import MLflowPlugin
from helpers.train import Killed, Train, epochs_of, kill_after, run_of

pytestmark = pytest.mark.xdist_group("mlflow")


def test_a_repeated_attempt_has_the_whole_training_in_its_own_run(
    mlflow_plugin: MLflowPlugin, train: Train, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = mlflow_plugin.start_task("train", monkeypatch)
    with pytest.raises(Killed):
        train(on_epoch=kill_after(2))
    second = mlflow_plugin.start_task("train", monkeypatch)
    model = train()
    assert "resuming from a checkpoint" in capsys.readouterr().out
    run = run_of(model)
    assert run.info.run_id == second and epochs_of(model) == [1, 2, 3]
    assert run.data.tags["kfp.pipeline_run_url"] == "https://kubeflow.example.org/#/runs/details/5c2f"
    assert run.info.run_name.endswith(f"demo fold 2 seed 0 {run.info.run_id[:6]}")
    assert (mlflow_plugin.status(first), mlflow_plugin.status(second)) == ("FAILED", "FINISHED")
    assert mlflow_plugin.status(mlflow_plugin.pipeline_run) == "RUNNING", "the plugin ends it"


def test_an_attempt_with_the_same_run_continues_it(
    mlflow_plugin: MLflowPlugin, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = mlflow_plugin.start_task("train", monkeypatch)
    with pytest.raises(Killed):
        train(on_epoch=kill_after(2))
    model = train()
    assert run_of(model).info.run_id == given and epochs_of(model) == [1, 2, 3]
    assert mlflow_plugin.status(given) == "FINISHED"
