"""A cross-validation that was killed and is started again: what was trained is not trained again, and nothing stays."""

from pathlib import Path
from typing import Any

import mlflow
import pytest
from helpers.train import Killed, epochs_of, killed_after, run_of, same_weights

from audiocnn.config import TrainSettings
from components.aggregate.gather import AggregateError
from components.aggregate.step import Aggregate, aggregate
from components.evaluate.step import evaluate
from components.plan_trials import grid
from components.plan_trials.step import Request, plan_trials
from components.train import step
from mlops import stores
from pipeline.settings import PipelineSettings


class CrossValidation:
    """Two folds, as the pipeline runs them; `folder` is one run's, the checkpoints outlive it."""

    def __init__(self, spectrograms: Path, tiny: PipelineSettings, folder: Path, checkpoints: str) -> None:
        self.spectrograms, self.tiny, self.folder, self.checkpoints = spectrograms, tiny, folder, checkpoints
        settings = tiny.train.replace(epochs=3, checkpoint_minutes=0.0)
        self.plan = plan_trials(spectrograms, "demo", settings, Request([2, 4], [0], grid.AS_IT_IS))
        self.parent = self.plan[0]["parent"]

    def train(self, planned: dict[str, Any]) -> Path:
        settings = TrainSettings.parse(planned["settings"], "plan")
        model = self.folder / str(settings.fold) / "model"
        member = step.Member(planned["parent"], planned["trial"])
        step.train(self.spectrograms, settings, model, self.checkpoints, member)
        return model

    def aggregate(self, models: list[Path]) -> Aggregate:
        evaluations = [model.parent / "evaluation" for model in models]
        for model, evaluation in zip(models, evaluations, strict=True):
            evaluate(model, self.spectrograms, self.tiny.evaluate, evaluation)
        return aggregate(self.plan, models, evaluations, self.tiny.evaluate, self.folder / "pooled", self.checkpoints)


@pytest.fixture(params=["folder", "s3"])
def checkpoints(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "s3":
        return f"{request.getfixturevalue('s3')}/checkpoints"
    return str(tmp_path / "checkpoints")


def test_a_fold_that_was_trained_before_the_kill_moves_under_the_new_parent_and_no_checkpoint_stays(
    spectrogram_folder: Path,
    tiny: PipelineSettings,
    tmp_path: Path,
    checkpoints: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    first = CrossValidation(spectrogram_folder, tiny, tmp_path / "first", checkpoints)
    done = first.train(first.plan[0])
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        killed_after(2, patch)
        first.train(first.plan[1])
    assert run_of(done).data.tags["mlflow.parentRunId"] == first.parent
    capsys.readouterr()

    again = CrossValidation(spectrogram_folder, tiny, tmp_path / "again", checkpoints)
    models = [again.train(planned) for planned in again.plan]
    said = capsys.readouterr().out
    assert "fold 2 was trained before" in said and "fold 2, epoch" not in said and "fold 4, epoch 3/3" in said
    assert same_weights(models[0], done) and run_of(models[0]).info.run_id == run_of(done).info.run_id
    pooled = again.pool(models)
    for model in models:
        run = run_of(model)
        assert run.data.tags["mlflow.parentRunId"] == again.parent != first.parent
        assert run.info.status == "FINISHED" and epochs_of(model) == [1, 2, 3]
    assert len(pooled.trainings) == 2 and mlflow.MlflowClient().get_run(again.parent).info.status == "FINISHED"
    assert not list(stores.open_store(checkpoints).list())


def test_a_pool_that_refuses_keeps_the_checkpoints(
    spectrogram_folder: Path, tiny: PipelineSettings, tmp_path: Path, checkpoints: str
) -> None:
    one = CrossValidation(spectrogram_folder, tiny, tmp_path / "one", checkpoints)
    model = one.train(one.plan[0])
    with pytest.raises(AggregateError, match="1 of 2 planned trainings left no predictions: fold 4"):
        one.pool([model])
    assert list(stores.open_store(checkpoints).list())
