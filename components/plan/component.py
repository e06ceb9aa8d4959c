"""The step's face to Kubeflow Pipelines."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def plan(spectrograms: dsl.Input[dsl.Dataset], settings: dict, folds: list, seeds: list, trials: dict) -> list:
    """One entry a training, with the fields `settings`, `trial` and `parent`: what a loop runs over.

    It is the one return, and has no name: KFP's local runner skips a loop over any other output without a word.
    """
    from pathlib import Path

    from audiocnn.params import parse
    from audiocnn.settings import TrainSettings
    from components.plan import step

    parsed = parse(TrainSettings, settings, "pipeline parameter train")
    request = step.Request(step.whole(folds), step.whole(seeds), trials)
    return step.plan(Path(spectrograms.path), parsed, request)
