"""KFP component of the step plan_trials."""

from kfp import dsl

from mlops.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def plan_trials(
    spectrograms: dsl.Input[dsl.Dataset], recipe: str, settings: dict, folds: list, seeds: list, trials: dict
) -> list:
    """Return the fields of a TrainingRequest for each training, for a loop to run over.

    It is the only return value and has no name: kfp.local silently skips loops over named outputs.
    """
    from pathlib import Path

    from audiocnn.config import TrainSettings
    from components.plan_trials import step
    from components.plan_trials.request import PlanRequest

    parsed = TrainSettings.parse(settings, "pipeline parameter train")
    request = PlanRequest.parse({"folds": folds, "seeds": seeds, "trials": trials}, "pipeline parameter")
    return [each.to_dict() for each in step.plan_trials(Path(spectrograms.path), recipe, parsed, request)]
