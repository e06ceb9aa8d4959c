"""The training pipeline: clips -> spectrograms -> model -> evaluation -> registry -> champion -> endpoint."""

from typing import Any

from kfp import dsl

from pipeline.settings import PipelineSettings
from pipeline.tasks import Tasks


def training_pipeline(settings: PipelineSettings) -> Any:
    """Return the graph; `settings` are the defaults of its parameters, and what its tasks request from the cluster."""
    no_overrides: dict[str, Any] = {}

    @dsl.pipeline(
        name="training",
        display_name="Audio CNN: training",
        description="From labeled clips to a REST endpoint that classifies sounds.",
    )
    def pipeline(
        source: str = "demo",
        recipe: str = settings.recipe,
        overrides: dict = no_overrides,
        fold: int = settings.train.fold,
        seed: int = settings.train.seed,
        shards: int = 1,
        nodes: int = settings.resources.nodes,
        gpus_per_node: int = settings.resources.gpus_per_node,
        model_name: str = settings.register.name,
    ) -> None:
        """Train, evaluate, register, decide and deploy.

        Args:
            source: The labeled clips: demo (synthetic), esc50, s3://bucket/prefix, https://host/clips.zip or dvc:HASH.
            recipe: Settings of spectrograms and training, a file in recipes/ of the image: seed, strong or demo.
            overrides: Settings that differ from params.yaml and the recipe, such as {"train.epochs": 30}.
            fold: The fold to test on. The model is trained on all others.
            seed: Of the initial weights, the order of the clips and their augmentation.
            shards: Tasks that compute spectrograms side by side.
            nodes: Nodes to train on. More than one train in a TrainJob of Kubeflow Trainer.
            gpus_per_node: GPUs of each node; several train in a TrainJob, 0 trains on CPUs.
            model_name: The registered model in MLflow that gets a new version.
        """
        tasks = Tasks(recipe, overrides, settings.resources)
        training = {"fold": fold, "seed": seed, "nodes": nodes, "gpus_per_node": gpus_per_node}
        with dsl.ExitHandler(tasks.notify(), name="run"):
            checked = tasks.check_parameters(source=source, shards=shards, model_name=model_name, **training)
            dataset, spectrograms = tasks.spectrograms(checked, source, shards)
            model = tasks.train(spectrograms, checked.outputs["Output"], **training)
            evaluation = tasks.evaluate(model, spectrograms, dataset)
            version = tasks.register(model, evaluation, dataset, model_name)
            decision = tasks.promote(version, model, evaluation, spectrograms)
            with dsl.If(decision.outputs["Output"] == "promote", name="promoted"):
                tasks.deploy(version, dataset)

    return pipeline
