"""The training pipeline: clips -> data set -> spectrograms -> model -> scores -> registry -> champion -> endpoint."""

from pathlib import Path
from typing import Any

from kfp import dsl

from components.deploy import component as deploying
from components.promote import component as promoting
from components.register import component as registering
from components.train.settings import TrainJobSettings
from mlops.spectrogram_cache import DEFAULT_CACHE
from pipeline import resources as kubernetes
from pipeline import settings as pipeline_settings
from pipeline import tasks as steps
from pipeline.settings import PipelineSettings

PARAMS = Path(__file__).resolve().parents[1] / "params.yaml"


def arguments(settings: PipelineSettings) -> dict[str, Any]:
    """Return the pipeline parameters that hold settings: the recipe's name, and one block for each step."""
    return settings.to_dict()


def shares(count: int) -> list[str]:
    """`count` shares of the spectrograms to compute, for as many pods side by side: 1/2, 2/2."""
    return [f"{number}/{count}" for number in range(1, count + 1)]


def training_pipeline() -> Any:
    """The graph, its defaults taken from params.yaml."""
    default, one_share, one_node = arguments(pipeline_settings.load(PARAMS)), shares(1), TrainJobSettings().to_dict()

    @dsl.pipeline(
        name="training",
        display_name="Audio CNN: training",
        description="From labelled clips to a REST endpoint that names sounds.",
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
        shards: list = one_share,
        checkpoints: str = "var/checkpoints",
        code_digest: str = "",
        trainjob: dict = one_node,
    ) -> None:
        """`code_digest` names the code: with it KFP's cache does not take results of another release for its own."""
        dataset, pictures = steps.clips_to_spectrograms(source, ingest, spectrograms, cache, shards)
        model = steps.train(
            pictures, recipe=recipe, settings=train, checkpoints=checkpoints, code_digest=code_digest, trainjob=trainjob
        )
        scores = steps.evaluate(model, pictures, evaluate)

        # From here on every task changes the world outside the run: never taken from the cache.
        version = registering.register(
            model=model.outputs["model"],
            evaluation=scores.outputs["evaluation"],
            dataset=dataset.outputs["dataset"],
            settings=register,
        )
        version.set_caching_options(False).set_display_name("Register the version")
        kubernetes.reach_tracking(kubernetes.place(version))

        decision = promoting.promote(
            registration=version.outputs["registration"],
            model=model.outputs["model"],
            evaluation=scores.outputs["evaluation"],
            spectrograms=pictures.outputs["spectrograms"],
            settings=promote,
        )
        decision.set_caching_options(False).set_display_name("Champion or not")
        kubernetes.reach_tracking(kubernetes.place(decision))

        with dsl.If(decision.outputs["Output"] == "promote", name="promoted"):
            served = deploying.deploy(
                name=version.outputs["Output"], dataset=dataset.outputs["dataset"], settings=deploy
            )
            served.set_caching_options(False).set_display_name("Deploy to TorchServe")
            kubernetes.reach_tracking(kubernetes.place(served))

    return pipeline
