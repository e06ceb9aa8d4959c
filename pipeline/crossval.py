"""The pipeline of many trainings: folds, seeds and trials side by side, and one report on all of them.

With one trial it is a cross-validation, with several a sweep. Nothing is registered or promoted.
"""

from typing import Any

from kfp import dsl

from components.plan_trials.request import SINGLE_TRIAL
from mlops.checkpoint_store import DEFAULT_CHECKPOINTS
from mlops.spectrogram_cache import DEFAULT_CACHE
from pipeline import tasks
from pipeline.settings import PipelineSettings


def crossval_pipeline(settings: PipelineSettings) -> Any:
    """Return the graph; the defaults of its parameters are `settings`, every fold, one seed and one trial."""
    default, one_shard, one_seed = settings.to_dict(), tasks.shard_names(1), [settings.train.seed]
    every_fold: list[int] = []
    one_trial = {name: {**changes} for name, changes in SINGLE_TRIAL.items()}

    @dsl.pipeline(
        name="crossval",
        display_name="Audio CNN: cross-validation and sweeps",
        description="Trains on every fold, with every seed and trial, and aggregates the predictions.",
    )
    def pipeline(
        source: str = "demo",
        recipe: str = default["recipe"],
        ingest: dict = default["ingest"],
        spectrograms: dict = default["spectrograms"],
        train: dict = default["train"],
        evaluate: dict = default["evaluate"],
        folds: list = every_fold,
        seeds: list = one_seed,
        trials: dict = one_trial,
        cache: str = DEFAULT_CACHE,
        shards: list = one_shard,
        checkpoints: str = DEFAULT_CHECKPOINTS,
        code_digest: str = "",
    ) -> None:
        """`folds`: numbers, none for all. `trials`: the changes of each in `train`, by name; more than one needs
        `train.hold_out`. `train.fold` and `train.seed` are set for each training. `code_digest`: as in training."""  # noqa: D205, D209
        _, spectrogram_set = tasks.spectrogram_tasks(source, ingest, spectrograms, cache, shards)
        plan = tasks.plan_task(spectrogram_set, recipe=recipe, settings=train, folds=folds, seeds=seeds, trials=trials)

        with dsl.ParallelFor(items=plan.output, name="trainings") as training:
            model = tasks.train_task(
                spectrogram_set,
                recipe=training.recipe,
                settings=training.settings,
                checkpoints=checkpoints,
                code_digest=code_digest,
                parent=training.parent_run,
                trial=training.trial,
            )
            evaluation = tasks.evaluate_task(model, spectrogram_set, evaluate)

        tasks.aggregate_task(
            plan=plan.output,
            models=dsl.Collected(model.outputs["model"]),
            evaluations=dsl.Collected(evaluation.outputs["evaluation"]),
            settings=evaluate,
            checkpoints=checkpoints,
        )

    return pipeline
