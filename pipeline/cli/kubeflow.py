"""The command submit: runs on a Kubeflow cluster."""

from typing import Annotated

import typer

from pipeline.cli.options import PARAMS, SOURCES, ParamsOption, SeedsOption, SetOption, load_settings


def submit(
    host: Annotated[str, typer.Argument(help="URL of the Kubeflow Pipelines API.", envvar="KF_PIPELINES_ENDPOINT")],
    source: Annotated[str, typer.Option(help=f"demo (the embedded data set); {SOURCES}. As the pods see it.")] = "demo",
    namespace: Annotated[
        str | None, typer.Option(help="Namespace of your Kubeflow profile; omit on a single-user cluster.")
    ] = None,
    image: Annotated[str | None, typer.Option(help="Image to use, by its name in the cluster's registry.")] = None,
    experiment: Annotated[str, typer.Option(help="KFP experiment of the run.")] = "audiocnn",
    token: Annotated[str | None, typer.Option(help="Bearer token for the API.", envvar="KF_PIPELINES_TOKEN")] = None,
    folds: Annotated[str, typer.Option(help="Run a cross-validation instead: folds as in `crossval`.")] = "",
    grid: Annotated[list[str], typer.Option(help="Run a sweep instead: a grid as in `sweep`.")] = [],  # noqa: B006
    seeds: SeedsOption = 1,
    shards: Annotated[int, typer.Option(min=1, help="Tasks that compute the spectrograms side by side.")] = 1,
    nodes: Annotated[int, typer.Option(min=1, help="Nodes to train on; more than 1 start a Kubeflow TrainJob.")] = 1,
    gpus_per_node: Annotated[
        int | None, typer.Option(min=0, help="GPUs of each of several nodes, by default 1; 0 trains on CPUs.")
    ] = None,
    params: ParamsOption = PARAMS,
    set_: SetOption = [],  # noqa: B006  typer copies it
) -> None:
    """Start a run of the training pipeline, a cross-validation or a sweep on a Kubeflow cluster."""
    from components.train.settings import TrainJobSettings
    from pipeline.experiments import crossval_request, sweep_request
    from pipeline.submit import KubeflowClient

    _check_options(bool(folds or grid), seeds, nodes, gpus_per_node)
    client = KubeflowClient(host, namespace, image, experiment, token)
    if grid:
        settings, request = sweep_request(params, set_, source, grid, folds or "all", seeds)
        run_id = client.submit_crossval(settings, source, request, shards)
    elif folds:
        settings = load_settings(params, set_)
        request = crossval_request(settings, source, folds, seeds)
        run_id = client.submit_crossval(settings, source, request, shards)
    else:
        trainjob = TrainJobSettings(nodes=nodes, gpus_per_node=1 if gpus_per_node is None else gpus_per_node)
        run_id = client.submit_training(load_settings(params, set_), source, shards, trainjob)
    typer.echo(client.run_url(run_id))


def _check_options(many: bool, seeds: int, nodes: int, gpus_per_node: int | None) -> None:
    """Refuse options that do not apply to one training, or to a cross-validation or sweep."""
    from components.plan_trials.request import PlanError

    if many and (nodes > 1 or gpus_per_node is not None):
        name = "--nodes" if nodes > 1 else "--gpus-per-node"
        raise PlanError(f"{name} is for one training; folds and trials run side by side, each on its own GPU")
    if nodes == 1 and gpus_per_node not in (None, 1):
        raise PlanError("--gpus-per-node is for several nodes, see --nodes; one node trains on one GPU")
    if not many and seeds > 1:
        raise PlanError("--seeds is for a cross-validation or a sweep: add --folds all, or a --grid")
