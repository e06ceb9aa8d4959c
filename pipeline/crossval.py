"""The pipeline of many trainings: folds, seeds and trials side by side, and one report on all of them.

With one trial it is a cross-validation, with several a sweep. Nothing is registered or promoted.
"""

from typing import Any

from kfp import dsl

from components.plan_trials.request import SINGLE_TRIAL
from pipeline.settings import PipelineSettings
from pipeline.tasks import Tasks


def crossval_pipeline(settings: PipelineSettings) -> Any:
    """Return the graph; defaults are `settings`, every fold, one seed and one trial. Each training is on one node."""
    no_overrides: dict[str, Any] = {}
    every_fold: list[int] = []
    one_seed = [settings.train.seed]
    one_trial = {name: {**changes} for name, changes in SINGLE_TRIAL.items()}
    gpus = min(1, settings.resources.gpus_per_node)

    @dsl.pipeline(
        name="crossval",
        display_name="Audio CNN: cross-validation and sweeps",
        description="Trains on every fold, with every seed and trial, and aggregates the predictions.",
    )
    def pipeline(
        source: str = "demo",
        recipe: str = settings.recipe,
        overrides: dict = no_overrides,
        folds: list = every_fold,
        seeds: list = one_seed,
        trials: dict = one_trial,
        shards: int = 1,
    ) -> None:
        """Train on every fold, with every seed and trial, and compare.

        Args:
            source: The labeled clips: demo (synthetic), esc50, s3://bucket/prefix, https://host/clips.zip or dvc:HASH.
            recipe: Settings of spectrograms and training, a file in recipes/ of the image: seed, strong or demo.
            overrides: Settings that differ from params.yaml and the recipe, such as {"train.epochs": 30}.
            folds: The folds to test on, such as [1, 2]; [] for all that are not held out.
            seeds: One training for each, such as [0, 1, 2].
            trials: What each, by name, changes in the block train: {"a": {"max_lr": 0.001}, "b": {"max_lr": 0.004}}.
                Several are a sweep, which needs a fold in train.hold_out.
            shards: Tasks that compute spectrograms side by side.
        """
        tasks = Tasks(recipe, overrides, settings.resources)
        planned = {"folds": folds, "seeds": seeds, "trials": trials}
        with dsl.ExitHandler(tasks.notify(), name="run"):
            checked = tasks.check_plan(source=source, shards=shards, **planned)
            dataset, spectrograms = tasks.spectrograms(checked, source, shards)
            plan = tasks.plan(spectrograms, **planned)
            with dsl.ParallelFor(items=plan.output, name="trainings") as training:
                model = tasks.train(spectrograms, gpus, planned=training, nodes=1, gpus_per_node=gpus)
                evaluation = tasks.evaluate(model, spectrograms, dataset)
            tasks.aggregate(
                plan=plan.output,
                models=dsl.Collected(model.outputs["model"]),
                evaluations=dsl.Collected(evaluation.outputs["evaluation"]),
            )

    return pipeline
