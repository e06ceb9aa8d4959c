"""The `audiocnn` command. Each command is a thin wrapper; this file lists them.

Commands import what they need inside, so that `audiocnn --help` does not wait for PyTorch and MLflow.
"""

import os
from collections.abc import Callable
from typing import Annotated

import typer

from mlops.spectrogram_cache import DEFAULT_CACHE
from pipeline.cli import endpoint, kubeflow, model_versions, run
from pipeline.cli.options import PARAMS, ParamsOption, SetOption, handle_errors, load_settings

# Before PyTorch is loaded: threads that spin while they wait take the CPU from TorchServe and other programs. On two
# busy cores a training takes twice as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Environmental sounds: from labeled clips to a REST endpoint. Settings are in params.yaml.",
)
COMMANDS: tuple[Callable[..., None], ...] = (
    *(run.demo, run.run, run.crossval, run.sweep, kubeflow.submit),
    *(endpoint.classify, endpoint.key),
    *(model_versions.status, model_versions.deploy, model_versions.approve, model_versions.rollback),
)
for command in COMMANDS:
    app.command()(command)
app.command("compile")(kubeflow.compile_pipelines)


@app.command()
def mlflow() -> None:
    """Serve MLflow's UI, with the runs and the model registry, and print its address."""
    with handle_errors():
        from pipeline.cli.servers import start_mlflow_ui

        typer.echo(f"MLflow: {start_mlflow_ui()}")


@app.command()
def down(params: ParamsOption = PARAMS, set_: SetOption = []) -> None:  # noqa: B006  typer copies it
    """Stop the TorchServe and the MLflow UI that were started here."""
    with handle_errors():
        from pipeline.cli.servers import stop_servers

        stopped = stop_servers(load_settings(params, set_).deploy)
        typer.echo(f"Stopped: {', '.join(stopped)}" if stopped else "Nothing was running.")


cache = typer.Typer(no_args_is_help=True, help="The spectrogram cache: its content, and limiting its size.")
app.add_typer(cache, name="cache")
CacheOption = Annotated[str, typer.Option("--cache", help="A folder, or s3://bucket/prefix.")]


@cache.command("status")
def cache_status(root: CacheOption = DEFAULT_CACHE) -> None:
    """Show the cache's size, and which data sets use it and when they last did."""
    with handle_errors():
        from rich.console import Console

        from pipeline.cli.cache import status

        Console().print(status(root))


@cache.command("gc")
def cache_gc(
    max_size: Annotated[str, typer.Option(help="Size limit, for example 10GB.")],
    keep: Annotated[list[str], typer.Option(help="Name or digest of a data set to keep. Repeatable.")] = [],  # noqa: B006
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be removed.")] = False,
    root: CacheOption = DEFAULT_CACHE,
) -> None:
    """Remove the least recently used spectrograms until the cache is no larger than --max-size."""
    with handle_errors():
        from pipeline.cli.cache import collect

        typer.echo(collect(root, max_size, keep, dry_run))
