"""The pipeline of many trainings: folds, seeds and trials side by side, and one report of them all.

With one trial it is a cross-validation, with several a sweep. Nothing is registered or promoted.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from kfp import dsl

from components.aggregate import component as pooling
from components.plan_trials import component as planning
from components.plan_trials.grid import AS_IT_IS
from mlops.provenance import code_digest
from mlops.spectrogram_cache import DEFAULT_CACHE
from pipeline import resources as kubernetes
from pipeline import settings as pipeline_settings
from pipeline import tasks as steps
from pipeline.settings import PipelineSettings
from pipeline.training import PARAMS, shares
from pipeline.training import arguments as blocks

BLOCKS = ("recipe", "ingest", "spectrograms", "train", "evaluate")


def arguments(
    settings: PipelineSettings,
    source: str,
    folds: Sequence[int],
    seeds: Sequence[int],
    trials: Mapping[str, Mapping[str, Any]] = AS_IT_IS,
    shards: int = 1,
) -> dict[str, Any]:
    """All parameters of the pipeline; `folds`, `seeds` and `trials` as in components.plan.step.Request."""
    given = {name: block for name, block in blocks(settings).items() if name in BLOCKS}
    what = {"folds": [*folds], "seeds": [*seeds], "trials": {name: {**changes} for name, changes in trials.items()}}
    return {"source": source, **given, **what, "shards": shares(shards), "code_digest": code_digest()}


def crossval_pipeline() -> Any:
    """The graph, its defaults taken from params.yaml: every fold, one seed, one trial."""
    settings = pipeline_settings.load(PARAMS)
    default, one_share, one_seed = blocks(settings), shares(1), [settings.train.seed]
    every_fold: list[int] = []
    one_trial = {name: {**changes} for name, changes in AS_IT_IS.items()}

    @dsl.pipeline(
        name="crossval",
        display_name="Audio CNN: cross-validation and sweeps",
        description="Trains on every fold, with every seed and trial, and pools the predictions. Registers nothing.",
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
        shards: list = one_share,
        checkpoints: str = "var/checkpoints",
        code_digest: str = "",
    ) -> None:
        """`folds`: numbers, none for all. `trials`: by name, what each changes in `train`; more than one needs
        `train.hold_out`. `train.fold` and `train.seed` are set for each training. `code_digest`: as in training."""
        _, pictures = steps.clips_to_spectrograms(source, ingest, spectrograms, cache, shards)

        planned = planning.plan_trials(
            spectrograms=pictures.outputs["spectrograms"],
            recipe=recipe,
            settings=train,
            folds=folds,
            seeds=seeds,
            trials=trials,
        )
        # It begins an MLflow run, into which nothing that was cached could be put.
        planned.set_caching_options(False).set_display_name("Plan the trainings")
        kubernetes.reach_tracking(kubernetes.place(planned))

        with dsl.ParallelFor(items=planned.output, name="trainings") as training:
            model = steps.train(
                pictures,
                recipe=training.recipe,
                settings=training.settings,
                checkpoints=checkpoints,
                code_digest=code_digest,
                parent=training.parent_run,
                trial=training.trial,
            )
            scores = steps.evaluate(model, pictures, evaluate)

        pooled = pooling.aggregate(
            plan=planned.output,
            models=dsl.Collected(model.outputs["model"]),
            evaluations=dsl.Collected(scores.outputs["evaluation"]),
            settings=evaluate,
            checkpoints=checkpoints,
        )
        pooled.set_caching_options(False).set_display_name("Pool the predictions")
        kubernetes.share_state(kubernetes.reach_tracking(kubernetes.place(pooled)))

    return pipeline
