"""A restarted cross-validation repeats no finished training, and its checkpoints are deleted at the end."""

from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from helpers.train import Killed, epochs_of, kill_after, run_of, same_weights

from audiocnn.training.state import Epoch
from components.aggregate.collect import AggregateError
from components.aggregate.step import aggregate
from components.aggregate.trials import Aggregate
from components.evaluate.step import evaluate
from components.plan_trials.request import SINGLE_TRIAL, PlanRequest
from components.plan_trials.step import plan_trials
from components.train import step
from mlops import storage
from mlops.artifacts import TrainingRequest
from pipeline.settings import PipelineSettings


class CrossValidation:
    """A cross-validation on two folds. `folder` is that of one run, `checkpoints` are shared by several."""

    def __init__(
        self, dataset: Path, spectrograms: Path, tiny: PipelineSettings, folder: Path, checkpoints: str
    ) -> None:
        self.dataset, self.spectrograms, self.tiny = dataset, spectrograms, tiny
        self.folder, self.checkpoints = folder, checkpoints
        settings = tiny.train.replace(epochs=3, checkpoint_minutes=0.0)
        request = PlanRequest(folds=(2, 4), seeds=(0,), trials=SINGLE_TRIAL)
        self.plan = plan_trials(spectrograms, "demo", settings, request)
        self.parent = self.plan[0].parent_run

    def train(self, request: TrainingRequest, on_epoch: Callable[[Epoch], None] | None = None) -> Path:
        model = self.folder / str(request.settings.fold) / "model"
        step.train(self.spectrograms, request, model, self.checkpoints, on_epoch)
        return model

    def aggregate(self, models: list[Path]) -> Aggregate:
        evaluations = [model.parent / "evaluation" for model in models]
        for model, evaluation in zip(models, evaluations, strict=True):
            evaluate(model, self.spectrograms, self.dataset, self.tiny.evaluate, evaluation)
        return aggregate(
            self.plan, models, evaluations, self.tiny.evaluate, self.folder / "aggregate", self.checkpoints
        )


@pytest.fixture(params=["folder", "s3"])
def checkpoints(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "s3":
        return f"{request.getfixturevalue('s3')}/checkpoints"
    return str(tmp_path / "checkpoints")


def test_a_finished_fold_is_reused_under_the_new_parent_run(
    dataset: Path,
    spectrogram_folder: Path,
    tiny: PipelineSettings,
    tmp_path: Path,
    checkpoints: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    first = CrossValidation(dataset, spectrogram_folder, tiny, tmp_path / "first", checkpoints)
    done = first.train(first.plan[0])
    with pytest.raises(Killed):
        first.train(first.plan[1], kill_after(2))
    assert run_of(done).data.tags["mlflow.parentRunId"] == first.parent
    capsys.readouterr()

    again = CrossValidation(dataset, spectrogram_folder, tiny, tmp_path / "again", checkpoints)
    models = [again.train(request) for request in again.plan]
    output = capsys.readouterr().out
    assert "fold 2: training was already complete" in output
    assert "fold 2, epoch" not in output and "fold 4, epoch 3/3" in output
    assert same_weights(models[0], done) and run_of(models[0]).info.run_id == run_of(done).info.run_id
    result = again.aggregate(models)
    for model in models:
        run = run_of(model)
        assert run.data.tags["mlflow.parentRunId"] == again.parent != first.parent
        assert run.info.status == "FINISHED" and epochs_of(model) == [1, 2, 3]
    assert len(result.trainings) == 2 and mlflow.MlflowClient().get_run(again.parent).info.status == "FINISHED"
    assert not list(storage.open_store(checkpoints).list())


def test_incomplete_results_keep_the_checkpoints(
    dataset: Path, spectrogram_folder: Path, tiny: PipelineSettings, tmp_path: Path, checkpoints: str
) -> None:
    one = CrossValidation(dataset, spectrogram_folder, tiny, tmp_path / "one", checkpoints)
    model = one.train(one.plan[0])
    with pytest.raises(AggregateError, match="1 of 2 planned trainings have no result, the first is fold 4"):
        one.aggregate([model])
    assert list(storage.open_store(checkpoints).list())
