"""The command submit: start a run on a Kubeflow cluster, or make a recurring one."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.kubeflow_runs import NamespaceOption, TokenOption, finish, follow, follow_up
from pipeline.cli.options import PARAMS, ParamsOption, SeedsOption, SetOption, load_settings

if TYPE_CHECKING:
    from pipeline.kubeflow.submission import Submission

# A folder or a .zip on this machine is a source of local runs only.
SOURCES = (
    "demo (the embedded data set); esc50; dvc or dvc:REVISION; s3://bucket/prefix; the https:// URL of a .zip file"
)


def submit(
    host: Annotated[
        str,
        typer.Argument(metavar="URL", help="Of the Kubeflow Pipelines API.", envvar="KF_PIPELINES_ENDPOINT"),
    ],
    source: Annotated[str, typer.Option(help=f"{SOURCES}.")] = "demo",
    namespace: NamespaceOption = None,
    token: TokenOption = None,
    image: Annotated[
        str | None,
        typer.Option(help="As the cluster pulls it. Without a tag, that of the git revision.", envvar="AUDIOCNN_IMAGE"),
    ] = None,
    image_on_nodes: Annotated[
        bool, typer.Option("--image-on-nodes", help="The cluster's nodes have the image; it needs no registry.")
    ] = False,
    experiment: Annotated[str, typer.Option(help="KFP experiment of the run.")] = "audiocnn",
    name: Annotated[str | None, typer.Option(help="Of the run; by default source, recipe, fold, revision.")] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Show the steps until the end; the exit status is the run's outcome.")
    ] = False,
    cron: Annotated[
        str | None, typer.Option(help='Make a recurring run, for example "0 3 * * 1": Mondays at three, UTC.')
    ] = None,
    folds: Annotated[str, typer.Option(help="Run a cross-validation instead: folds as in `crossval`.")] = "",
    grid: Annotated[list[str], typer.Option(help="Run a sweep instead: a grid as in `sweep`.")] = [],  # noqa: B006
    seeds: SeedsOption = 1,
    shards: Annotated[int, typer.Option(min=1, help="Tasks that compute the spectrograms side by side.")] = 1,
    nodes: Annotated[
        int | None, typer.Option(min=1, help="Nodes to train on; more than 1 start a Kubeflow TrainJob.")
    ] = None,
    gpus_per_node: Annotated[int | None, typer.Option(min=0, help="GPUs of each node; 0 trains on CPUs.")] = None,
    params: ParamsOption = PARAMS,
    set_: SetOption = [],  # noqa: B006  typer copies it
) -> None:
    """Start a run of the training pipeline, a cross-validation or a sweep on a Kubeflow cluster."""
    from mlops.provenance import DIRTY
    from pipeline.kubeflow.client import KubeflowClient
    from pipeline.kubeflow.image import choose_image, short_revision
    from pipeline.kubeflow.submission import parse_cron

    _check_options(bool(folds or grid), seeds, nodes, gpus_per_node, wait and cron is not None)
    schedule = None if cron is None else parse_cron(cron)
    client = KubeflowClient(host, namespace, token)
    chosen = choose_image(image, image_on_nodes)
    shortcuts = {"resources.nodes": nodes, "resources.gpus_per_node": gpus_per_node}
    assignments = [*set_, *(f"{key}={value}" for key, value in shortcuts.items() if value is not None)]
    submission = _submission(params, assignments, source, folds, grid, seeds, shards, chosen)
    version = client.upload(submission.pipeline, submission.version, submission.compiled)
    experiment_id = client.experiment(experiment)
    typer.echo(f"Image     {chosen}")
    if short_revision().endswith(DIRTY):
        typer.echo("          (without the uncommitted changes on this machine, other than settings)")
    typer.echo(f"Pipeline  {submission.pipeline}, version {submission.version}")
    if schedule is not None:
        title = name or submission.title
        _, new = client.schedule(title, version, experiment_id, submission.arguments, schedule)
        typer.echo(f"Schedule  {title}: {cron} ({'created' if new else 'exists already'})")
        typer.echo(f"Page      {client.host}/#/recurringruns")
        return
    title = name or submission.name
    run_id = client.start(title, version, experiment_id, submission.arguments)
    typer.echo(f"Run       {title}")
    typer.echo(f"Page      {client.run_url(run_id)}")
    if wait:
        finish(client, follow(client, run_id))
    else:
        typer.echo(f"State     {follow_up(client, 'show', run_id)}")


def _submission(
    params: Path,
    assignments: Sequence[str],
    source: str,
    folds: str,
    grid: Sequence[str],
    seeds: int,
    shards: int,
    image: str,
) -> "Submission":
    from pipeline.experiments import crossval_request, sweep_request
    from pipeline.kubeflow import submission

    if grid:
        settings, request = sweep_request(params, assignments, source, grid, folds or "all", seeds)
        return submission.crossval(settings, source, request, shards, image)
    settings = load_settings(params, [*assignments])
    if folds:
        return submission.crossval(settings, source, crossval_request(settings, source, folds, seeds), shards, image)
    return submission.training(settings, source, shards, image)


def _check_options(
    many: bool, seeds: int, nodes: int | None, gpus_per_node: int | None, wait_for_schedule: bool
) -> None:
    from components.plan_trials.request import PlanError

    if many and (nodes is not None or gpus_per_node is not None):
        option = "--nodes" if nodes is not None else "--gpus-per-node"
        raise PlanError(f"{option} is for one training; folds and trials run side by side, each on its own GPU")
    if not many and seeds > 1:
        raise PlanError("--seeds is for a cross-validation or a sweep: add --folds all, or a --grid")
    if wait_for_schedule:
        raise PlanError("--wait is for one run; leave it out with --cron, and see the runs with `audiocnn runs`")
