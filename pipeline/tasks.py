"""The tasks of the KFP graphs, each with its title, its caching and its resources."""

from typing import Any

from kfp import dsl
from kfp.dsl import PipelineTask

from components.aggregate.component import aggregate
from components.deploy.component import deploy
from components.evaluate.component import evaluate
from components.ingest.component import ingest
from components.plan_trials.component import plan_trials
from components.promote.component import promote
from components.register.component import register
from components.spectrograms.component import spectrogram_shard, spectrograms
from components.train.component import train
from mlops.cluster import TRAINING
from pipeline import resources
from pipeline.steps import TITLES


def shard_names(count: int) -> list[str]:
    """Return the shards of the spectrograms that as many pods compute side by side: "1/2", "2/2"."""
    return [f"{number}/{count}" for number in range(1, count + 1)]


def spectrogram_tasks(
    source: Any, ingest_settings: Any, settings: Any, cache: Any, shards: Any
) -> tuple[PipelineTask, PipelineTask]:
    """Add ingest, the shards of the spectrograms and the task that gathers them.

    Returns:
        the tasks ingest and spectrograms.
    """
    dataset = ingest(source=source, settings=ingest_settings, spectrograms=settings)
    # KFP's cache key does not contain the content of a source.
    dataset.set_caching_options(False).set_display_name(TITLES["ingest"])
    resources.use_sources(resources.set_resources(dataset, resources.DECODING))

    with dsl.ParallelFor(items=shards, name="shards") as shard:
        computed = spectrogram_shard(dataset=dataset.outputs["dataset"], settings=settings, cache=cache, shard=shard)
        # A shard writes to our cache only, and entries may have been evicted since.
        computed.set_caching_options(False).set_display_name(TITLES["spectrogram_shard"])
        resources.mount_state(resources.use_storage(resources.set_resources(computed, resources.DECODING)))

    gathered = spectrograms(
        dataset=dataset.outputs["dataset"],
        settings=settings,
        cache=cache,
        shards=dsl.Collected(computed.outputs["Output"]),
    )
    gathered.set_display_name(TITLES["spectrograms"])
    resources.mount_state(resources.use_storage(resources.set_resources(gathered, resources.DECODING)))
    return dataset, gathered


def train_task(spectrograms: PipelineTask, **arguments: Any) -> PipelineTask:
    """Add a training on one GPU; its checkpoints outlive the pod. `arguments` are the component's."""
    model = train(spectrograms=spectrograms.outputs["spectrograms"], **arguments).set_display_name(TITLES["train"])
    resources.use_mlflow(resources.set_resources(model, TRAINING))
    return resources.request_gpu(resources.set_image_env(resources.mount_state(model)))


def evaluate_task(model: PipelineTask, spectrograms: PipelineTask, settings: Any) -> PipelineTask:
    """Add the evaluation of a model."""
    evaluation = evaluate(
        model=model.outputs["model"], spectrograms=spectrograms.outputs["spectrograms"], settings=settings
    )
    evaluation.set_display_name(TITLES["evaluate"])
    return resources.use_mlflow(resources.set_resources(evaluation))


def register_task(model: PipelineTask, evaluation: PipelineTask, dataset: PipelineTask, settings: Any) -> PipelineTask:
    """Add the registration of a model."""
    return _uncached_mlflow_task(
        register(
            model=model.outputs["model"],
            evaluation=evaluation.outputs["evaluation"],
            dataset=dataset.outputs["dataset"],
            settings=settings,
        ),
        TITLES["register"],
    )


def promote_task(
    version: PipelineTask, model: PipelineTask, evaluation: PipelineTask, spectrograms: PipelineTask, settings: Any
) -> PipelineTask:
    """Add the decision on a registered version."""
    return _uncached_mlflow_task(
        promote(
            registration=version.outputs["registration"],
            model=model.outputs["model"],
            evaluation=evaluation.outputs["evaluation"],
            spectrograms=spectrograms.outputs["spectrograms"],
            settings=settings,
        ),
        TITLES["promote"],
    )


def deploy_task(version: PipelineTask, dataset: PipelineTask, settings: Any) -> PipelineTask:
    """Add the deployment of the champion."""
    deployment = deploy(name=version.outputs["Output"], dataset=dataset.outputs["dataset"], settings=settings)
    return _uncached_mlflow_task(deployment, TITLES["deploy"])


def plan_task(spectrograms: PipelineTask, **arguments: Any) -> PipelineTask:
    """Add the plan of a cross-validation or sweep; it starts the MLflow run of all trainings."""
    plan = plan_trials(spectrograms=spectrograms.outputs["spectrograms"], **arguments)
    return _uncached_mlflow_task(plan, TITLES["plan_trials"])


def aggregate_task(**arguments: Any) -> PipelineTask:
    """Add the report on all trainings; it deletes their checkpoints."""
    return resources.mount_state(_uncached_mlflow_task(aggregate(**arguments), TITLES["aggregate"]))


def _uncached_mlflow_task(task: PipelineTask, title: str) -> PipelineTask:
    """Set up a light task that changes MLflow or TorchServe, and must run each time."""
    task.set_caching_options(False).set_display_name(title)
    return resources.use_mlflow(resources.set_resources(task))
