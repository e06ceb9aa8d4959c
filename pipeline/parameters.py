"""The first task of the graphs: check all parameters of a run before time is spent on it."""

from typing import Optional

from kfp import dsl

from mlops.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def check_parameters(
    source: str,
    recipe: str,
    overrides: dict,
    shards: int,
    fold: Optional[int] = None,
    seed: Optional[int] = None,
    nodes: Optional[int] = None,
    gpus_per_node: Optional[int] = None,
    model_name: Optional[str] = None,
) -> str:
    """Check all parameters, and return how many GPUs the task train requests for its own pod."""
    from audiocnn.strict_model import SettingsError
    from components.ingest.sources import parse_source
    from mlops.run_parameters import resolve_parameters
    from pipeline.settings import PipelineSettings

    settings = resolve_parameters(
        recipe, overrides, fold=fold, seed=seed, nodes=nodes, gpus_per_node=gpus_per_node, model_name=model_name
    ).parse(PipelineSettings)
    if shards < 1:
        raise SettingsError(f"pipeline parameter shards: should be at least 1, found {shards}")
    folds = parse_source(source).folds()
    if folds and fold is not None and fold not in folds:
        known = ", ".join(map(str, folds))
        raise SettingsError(f"pipeline parameter fold: {source} has no fold {fold}; its folds are {known}")
    return str(settings.resources.gpus_of_task)
