"""KFP component of the step plan_trials."""

from kfp import dsl

from mlops.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def plan_trials(
    spectrograms: dsl.Input[dsl.Dataset],
    recipe: str,
    overrides: dict,
    folds: list,
    seeds: list,
    trials: dict,
    kfp_run: str = "",
) -> list:
    """Return the fields of a TrainingRequest for each training, for a loop to run over.

    It is the only return value and has no name: kfp.local silently skips loops over named outputs. `kfp_run` is the id
    of the Kubeflow run.
    """
    from pathlib import Path

    from audiocnn.config import TrainSettings
    from components.plan_trials import step
    from components.plan_trials.request import PlanRequest
    from mlops.cluster_settings import KubeflowSettings
    from mlops.kubeflow_run import set_kubeflow_run
    from mlops.run_parameters import resolve_parameters

    resolved = resolve_parameters(recipe, overrides)
    set_kubeflow_run(kfp_run, resolved.block("kubeflow", KubeflowSettings).ui)
    settings = resolved.block("train", TrainSettings)
    request = PlanRequest.parse({"folds": folds, "seeds": seeds, "trials": trials}, "pipeline parameter")
    return [each.to_dict() for each in step.plan_trials(Path(spectrograms.path), recipe, settings, request)]
