"""The training pipeline: clips -> spectrograms -> model -> evaluation -> registry -> champion -> endpoint."""

from typing import Any

from kfp import dsl

from components.train.settings import TrainJobSettings
from mlops.checkpoint_store import DEFAULT_CHECKPOINTS
from mlops.spectrogram_cache import DEFAULT_CACHE
from pipeline import tasks
from pipeline.settings import PipelineSettings


def training_pipeline(settings: PipelineSettings) -> Any:
    """Return the graph; `settings` are the defaults of its parameters."""
    default, one_shard, one_node = settings.to_dict(), tasks.shard_names(1), TrainJobSettings().to_dict()

    @dsl.pipeline(
        name="training",
        display_name="Audio CNN: training",
        description="From labeled clips to a REST endpoint that classifies sounds.",
    )
    def pipeline(
        source: str = "demo",
        recipe: str = default["recipe"],
        ingest: dict = default["ingest"],
        spectrograms: dict = default["spectrograms"],
        train: dict = default["train"],
        evaluate: dict = default["evaluate"],
        register: dict = default["register"],
        promote: dict = default["promote"],
        deploy: dict = default["deploy"],
        cache: str = DEFAULT_CACHE,
        shards: list = one_shard,
        checkpoints: str = DEFAULT_CHECKPOINTS,
        code_digest: str = "",
        trainjob: dict = one_node,
    ) -> None:
        """`code_digest` identifies the code, so that KFP's cache does not reuse results of another release."""
        dataset, spectrogram_set = tasks.spectrogram_tasks(source, ingest, spectrograms, cache, shards)
        model = tasks.train_task(
            spectrogram_set,
            recipe=recipe,
            settings=train,
            checkpoints=checkpoints,
            code_digest=code_digest,
            trainjob=trainjob,
        )
        evaluation = tasks.evaluate_task(model, spectrogram_set, evaluate)
        version = tasks.register_task(model, evaluation, dataset, register)
        decision = tasks.promote_task(version, model, evaluation, spectrogram_set, promote)
        with dsl.If(decision.outputs["Output"] == "promote", name="promoted"):
            tasks.deploy_task(version, dataset, deploy)

    return pipeline
