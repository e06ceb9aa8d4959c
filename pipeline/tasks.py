"""The tasks that several graphs share, each with its title, its caching, and what it asks of a cluster."""

from typing import Any

from kfp import dsl
from kfp.dsl import PipelineTask

from components.evaluate import component as evaluating
from components.ingest import component as ingesting
from components.spectrograms import component as computing
from components.train import component as training
from mlops.cluster import TRAINING
from pipeline import resources as kubernetes


def clips_to_spectrograms(
    source: Any, ingest: Any, spectrograms: Any, cache: Any, shards: Any
) -> tuple[PipelineTask, PipelineTask]:
    """The head of every graph: ingest, the spectrograms in shares side by side, and the set put together of them."""
    dataset = ingesting.ingest(source=source, settings=ingest)
    # What a source holds is not part of KFP's cache key, so it is looked at in every run.
    dataset.set_caching_options(False).set_display_name("Ingest clips")
    kubernetes.reach_sources(kubernetes.place(dataset, kubernetes.DECODING))

    with dsl.ParallelFor(items=shards, name="shards") as shard:
        computed = computing.spectrogram_shard(
            dataset=dataset.outputs["dataset"], settings=spectrograms, cache=cache, shard=shard
        )
        # A share leaves nothing but entries in the cache, which may have been bounded since: never taken for done.
        computed.set_caching_options(False).set_display_name("Compute spectrograms")
        kubernetes.share_state(kubernetes.reach_storage(kubernetes.place(computed, kubernetes.DECODING)))

    pictures = computing.spectrograms(
        dataset=dataset.outputs["dataset"],
        settings=spectrograms,
        cache=cache,
        shards=dsl.Collected(computed.outputs["Output"]),
    )
    pictures.set_display_name("Gather spectrograms")
    kubernetes.share_state(kubernetes.reach_storage(kubernetes.place(pictures, kubernetes.DECODING)))
    return dataset, pictures


def train(pictures: PipelineTask, **arguments: Any) -> PipelineTask:
    """A training on a GPU, whose checkpoints outlive the pod; `arguments` are the component's own."""
    model = training.train(spectrograms=pictures.outputs["spectrograms"], **arguments)
    model.set_display_name("Train")
    kubernetes.reach_tracking(kubernetes.place(model, TRAINING))
    kubernetes.give_gpu(kubernetes.tell_image(kubernetes.share_state(model)))
    return model


def evaluate(model: PipelineTask, pictures: PipelineTask, settings: Any) -> PipelineTask:
    """The scores of what `train` gave."""
    scores = evaluating.evaluate(
        model=model.outputs["model"], spectrograms=pictures.outputs["spectrograms"], settings=settings
    )
    kubernetes.reach_tracking(kubernetes.place(scores.set_display_name("Evaluate on the unseen fold")))
    return scores
