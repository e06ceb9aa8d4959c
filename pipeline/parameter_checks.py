"""The first tasks of the graphs: check all parameters of a run before time is spent on it."""

from kfp import dsl

from mlops.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def check_parameters(
    source: str,
    recipe: str,
    overrides: dict,
    fold: int,
    seed: int,
    shards: int,
    nodes: int,
    gpus_per_node: int,
    model_name: str,
) -> str:
    """Check the parameters of a training, and return how many GPUs the task train requests for its own pod."""
    from mlops.run_parameters import check_shards, resolve_parameters
    from pipeline.experiments import check_fold
    from pipeline.settings import PipelineSettings

    parameters = {"fold": fold, "seed": seed, "nodes": nodes, "gpus_per_node": gpus_per_node}
    resolved = resolve_parameters(recipe, overrides, model_name=model_name, **parameters)
    settings = resolved.parse(PipelineSettings)
    check_shards(shards)
    check_fold(settings.train, source)
    return str(settings.resources.gpus_of_task)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def check_plan(source: str, recipe: str, overrides: dict, folds: list, seeds: list, trials: dict, shards: int):
    """Check the parameters of a cross-validation or a sweep, as far as possible without the data."""
    from components.plan_trials.request import PlanRequest
    from mlops.run_parameters import check_shards, resolve_parameters
    from pipeline.experiments import check_trainings
    from pipeline.settings import PipelineSettings

    settings = resolve_parameters(recipe, overrides).parse(PipelineSettings)
    request = PlanRequest.parse({"folds": folds, "seeds": seeds, "trials": trials}, "pipeline parameters")
    check_shards(shards)
    check_trainings(settings.train, request, source)
