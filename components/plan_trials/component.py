"""The step's face to Kubeflow Pipelines."""

from kfp import dsl

from mlops.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def plan_trials(
    spectrograms: dsl.Input[dsl.Dataset], recipe: str, settings: dict, folds: list, seeds: list, trials: dict
) -> list:
    """One entry a training, with the fields of TrainingRequest: what a loop runs over.

    It is the one return, and has no name: KFP's local runner skips a loop over any other output without a word.
    """
    from pathlib import Path

    from audiocnn.config import TrainSettings
    from components.plan_trials import step

    parsed = TrainSettings.parse(settings, "pipeline parameter train")
    request = step.Request(step.whole(folds), step.whole(seeds), trials)
    return step.plan_trials(Path(spectrograms.path), recipe, parsed, request)
