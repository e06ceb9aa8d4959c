"""The `audiocnn` command: what people type. Each command is one call into a room of the house."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from mlops.command_line import ParamsOption, SetOption, errors_to_exit
from mlops.runtime import sigterm_as_interrupt
from mlops.spectrogram_cache import DEFAULT_CACHE

if TYPE_CHECKING:
    from pipeline.settings import PipelineSettings

# Imports below stand inside the commands: `audiocnn --help` and `audiocnn key` must not wait for PyTorch and MLflow.

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Environmental sounds: from labelled clips to a REST endpoint. Settings stand in params.yaml.",
)
console = Console()
PARAMS = Path("params.yaml")
SOURCES = "esc50, a folder or .zip in ESC-50's layout, https:// of a .zip, s3://, dvc, dvc:REVISION"
DEPLOYMENT = Path("var/deployment")


@contextmanager
def exits() -> Iterator[None]:
    """One sentence and status 2 for what a person can mend, 1 for a run that failed by a defect, 130 for Ctrl-C.

    So end `kill` and a closed terminal, too.
    """
    from pipeline.run import RunError

    with errors_to_exit(), sigterm_as_interrupt():
        try:
            yield
        except RunError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(error.status) from None


def load_settings(path: Path, assignments: list[str]) -> "PipelineSettings":
    """Resolve params.yaml, its recipe and the overrides of the command line."""
    from mlops.settings import parse_overrides
    from pipeline.settings import load

    return load(path, parse_overrides(assignments))


ShardsOption = Annotated[int, typer.Option(min=1, help="Tasks that compute the spectrograms side by side.")]


@app.command()
def demo(
    data: Annotated[str | None, typer.Option(help=f"{SOURCES}; not the embedded clips.")] = None,
    subset: Annotated[str | None, typer.Option(help="all, or esc10: ten classes only.")] = None,
    fold: Annotated[int | None, typer.Option(help="The test fold; by default the highest there is.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Fewer for a quick look.")] = None,
    params: ParamsOption = PARAMS,
    set_: SetOption = [],  # noqa: B006  typer copies it
) -> None:
    """Clips to REST answer on this machine, in minutes on two CPU cores."""
    with exits():
        from mlops.settings import parse_overrides
        from pipeline.cli.demo import demo as run_demo
        from pipeline.cli.endpoint import options

        short = {"ingest.subset": subset, "train.epochs": epochs}
        given = [f"{key}={value}" for key, value in short.items() if value is not None]
        run_demo(params, parse_overrides([*given, *set_]), data, fold, console, options(params, set_))


@app.command()
def run(
    source: Annotated[str, typer.Option(help=f"demo, {SOURCES}.")] = "demo",
    docker: Annotated[bool, typer.Option("--docker", help="Every step in a container (`make images` first).")] = False,
    shards: ShardsOption = 1,
    params: ParamsOption = PARAMS,
    set_: SetOption = [],  # noqa: B006
) -> None:
    """Run the training pipeline on this machine with the settings of params.yaml."""
    with exits():
        from pipeline.cli.demo import road
        from pipeline.cli.endpoint import options
        from pipeline.run import run_docker, run_local

        runner = run_docker if docker else run_local
        road(load_settings(params, set_), source, runner, console, shards, options(params, set_))


SeedsOption = Annotated[
    int, typer.Option(min=1, max=100, help="Trainings of each fold, with seeds from train.seed on.")
]


@app.command()
def crossval(
    source: Annotated[str, typer.Option(help=f"demo, {SOURCES}.")] = "demo",
    folds: Annotated[str, typer.Option(help="Those to test on: numbers such as 1,2,4, or all.")] = "all",
    seeds: SeedsOption = 1,
    shards: ShardsOption = 1,
    params: ParamsOption = PARAMS,
    set_: SetOption = [],  # noqa: B006
) -> None:
    """Train on all folds but one, for each fold in turn, and report the pooled predictions. Registers nothing."""
    with exits():
        from pipeline.cli import experiments as many
        from pipeline.run import run_local

        arguments = many.crossval_arguments(load_settings(params, set_), source, folds, seeds, shards)
        many.conclude(run_local(arguments, many.CROSSVAL, console), console)


@app.command()
def sweep(
    grid: Annotated[list[str], typer.Option(help="A key's values: train.max_lr=0.001,0.002. Repeatable.")],
    source: Annotated[str, typer.Option(help=f"demo, {SOURCES}.")] = "demo",
    folds: Annotated[str, typer.Option(help="Those to compare on: numbers, or all but the test fold.")] = "all",
    seeds: SeedsOption = 1,
    shards: ShardsOption = 1,
    params: ParamsOption = PARAMS,
    set_: SetOption = [],  # noqa: B006
) -> None:
    """Train with every combination of a grid and rank them on validation folds; the test fold is held out.

    It is train.fold, or the highest of data that is known to have no such fold; train.hold_out names others.
    """
    with exits():
        from pipeline.cli import experiments as many
        from pipeline.run import run_local

        arguments = many.sweep_arguments(params, set_, source, grid, folds, seeds, shards)
        many.conclude(run_local(arguments, many.CROSSVAL, console), console)


@app.command()
def submit(
    host: Annotated[str, typer.Argument(help="URL of the Kubeflow Pipelines API.", envvar="KF_PIPELINES_ENDPOINT")],
    source: Annotated[str, typer.Option(help=f"demo, {SOURCES}; as the pods see it.")] = "demo",
    namespace: Annotated[str | None, typer.Option(help="Of your profile; none where the cluster has one user.")] = None,
    image: Annotated[str | None, typer.Option(help="The image's name in the cluster's registry.")] = None,
    experiment: Annotated[str, typer.Option(help="Runs are grouped by it in the Kubeflow page.")] = "audiocnn",
    token: Annotated[str | None, typer.Option(help="Of the API's gate.", envvar="KF_PIPELINES_TOKEN")] = None,
    folds: Annotated[str, typer.Option(help="Not a training, but a cross-validation: as in `crossval`.")] = "",
    grid: Annotated[list[str], typer.Option(help="Not a training, but a sweep: as in `sweep`.")] = [],  # noqa: B006
    seeds: SeedsOption = 1,
    shards: ShardsOption = 1,
    nodes: Annotated[int, typer.Option(min=1, help="Nodes to train on; more than 1 by a Kubeflow TrainJob.")] = 1,
    gpus_per_node: Annotated[
        int | None, typer.Option(min=0, help="Of each of several nodes, by default 1; 0: on processors.")
    ] = None,
    params: ParamsOption = PARAMS,
    set_: SetOption = [],  # noqa: B006
) -> None:
    """Start a run of the training pipeline, or of a cross-validation or a sweep, on a Kubeflow cluster."""
    with exits():
        from components.plan_trials.step import PlanError
        from components.train.settings import TrainJobSettings
        from pipeline.cli import demo
        from pipeline.cli import experiments as many
        from pipeline.run import TRAINING
        from pipeline.submit import submit as start

        pipeline = many.CROSSVAL if folds or grid else TRAINING
        trainjob = TrainJobSettings(nodes=nodes, gpus_per_node=1 if gpus_per_node is None else gpus_per_node)
        if pipeline == many.CROSSVAL and (nodes > 1 or gpus_per_node is not None):
            name = "--nodes" if nodes > 1 else "--gpus-per-node"
            raise PlanError(f"{name} is for one training; folds and trials run side by side, each on a GPU of its own")
        if nodes == 1 and trainjob.gpus_per_node != 1:
            raise PlanError("--gpus-per-node is for several nodes: say how many with --nodes; one trains on one GPU")
        if pipeline == TRAINING and seeds > 1:
            raise PlanError("--seeds is for a cross-validation or a sweep: add --folds all, or a --grid")
        if grid:
            arguments = many.sweep_arguments(params, set_, source, grid, folds or "all", seeds, shards)
        elif folds:
            arguments = many.crossval_arguments(load_settings(params, set_), source, folds, seeds, shards)
        else:
            arguments = demo.run_arguments(load_settings(params, set_), source, shards, trainjob)
        run_id = start(
            arguments, host, namespace=namespace, image=image, experiment=experiment, token=token, pipeline=pipeline
        )
        console.print(f"{host.rstrip('/')}/#/runs/details/{run_id}", soft_wrap=True, highlight=False)


@app.command("compile")
def compile_() -> None:
    """Write pipeline/compiled/*.yaml."""
    from pipeline.compile import compile_all

    for path in compile_all():
        console.print(path, soft_wrap=True)


@app.command()
def mlflow() -> None:
    """Serve MLflow's page, with the runs and the model registry, and print its address."""
    with exits():
        from pipeline.cli.servers import mlflow_page

        console.print(f"MLflow: {mlflow_page()}", soft_wrap=True)


@app.command()
def down(params: ParamsOption = PARAMS, set_: SetOption = []) -> None:  # noqa: B006
    """Stop the TorchServe and the MLflow page that were started here."""
    with exits():
        from pipeline.cli.servers import stop

        stopped = stop(load_settings(params, set_).deploy)
        console.print(f"Stopped: {', '.join(stopped)}" if stopped else "Nothing was running.")


@app.command()
def classify(
    files: Annotated[list[Path], typer.Argument(help="Sound files: WAV, FLAC, Ogg, MP3.")],
    params: ParamsOption = PARAMS,
    set_: SetOption = [],  # noqa: B006
) -> None:
    """Ask the running endpoint to name the sound in each file; in the end, those that it refuses are named."""
    with exits():
        from pipeline.cli.endpoint import ask_all

        for answer in ask_all(files, load_settings(params, set_)):
            console.print(answer)


@app.command()
def key(
    state: Annotated[Path | None, typer.Argument(help="The TorchServe's folder; by default deploy.state.")] = None,
    params: ParamsOption = PARAMS,
    set_: SetOption = [],  # noqa: B006
) -> None:
    """Print the endpoint's key, for curl -H "Authorization: Bearer $(audiocnn key)" -T FILE URL."""
    with exits():
        from serving.torchserve.server import inference_key

        typer.echo(inference_key(state or Path(load_settings(params, set_).deploy.state)))


@app.command()
def status(params: ParamsOption = PARAMS, set_: SetOption = []) -> None:  # noqa: B006
    """What is the champion, what waits, what is served."""
    with exits():
        from pipeline.cli.registry import overview

        console.print(overview(load_settings(params, set_)))


@app.command()
def deploy(params: ParamsOption = PARAMS, set_: SetOption = []) -> None:  # noqa: B006
    """Make TorchServe answer with the registry's champion, starting one where none runs."""
    with exits():
        from pipeline.cli.registry import serve

        serve(load_settings(params, set_), DEPLOYMENT)


@app.command()
def approve(
    version: Annotated[int, typer.Argument(help="Of the model in the registry.")],
    because: Annotated[str, typer.Option(help="A reason, recorded, to overrule what was decided.")] = "",
    params: ParamsOption = PARAMS,
    set_: SetOption = [],  # noqa: B006
) -> None:
    """Make a version that waits for a person the champion, and deploy it."""
    with exits():
        from mlops.tracking.champion import approve as crown
        from pipeline.cli import servers
        from pipeline.cli.registry import serve

        settings = load_settings(params, set_)
        servers.check(settings.deploy)
        crown(settings.register.name, version, force=because)
        serve(settings, DEPLOYMENT)


@app.command()
def rollback(params: ParamsOption = PARAMS, set_: SetOption = []) -> None:  # noqa: B006
    """Make the version before the champion the champion again, and deploy it."""
    with exits():
        from mlops.tracking.champion import rollback as back
        from pipeline.cli import servers
        from pipeline.cli.registry import serve

        settings = load_settings(params, set_)
        servers.check(settings.deploy)
        version = back(settings.register.name)
        console.print(json.dumps({"champion": version.number}))
        serve(settings, DEPLOYMENT)


cache = typer.Typer(no_args_is_help=True, help="The spectrogram cache: what it holds, and bounding its size.")
app.add_typer(cache, name="cache")
CacheOption = Annotated[str, typer.Option("--cache", help="A folder, or s3://bucket/prefix.")]


@cache.command("status")
def cache_status(root: CacheOption = DEFAULT_CACHE) -> None:
    """How large it is, which data sets use it, and when each did last."""
    with exits():
        from pipeline.cli.cache import status as overview

        console.print(overview(root))


@cache.command("gc")
def cache_gc(
    max_size: Annotated[str, typer.Option(help="What may stay, for example 10GB.")],
    keep: Annotated[list[str], typer.Option(help="Name or digest of a data set that stays. Repeatable.")] = [],  # noqa: B006
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would go.")] = False,
    root: CacheOption = DEFAULT_CACHE,
) -> None:
    """Remove what was used longest ago, until it is no larger than --max-size."""
    with exits():
        from pipeline.cli.cache import collect

        console.print(collect(root, max_size, keep, dry_run))


if __name__ == "__main__":
    app()
