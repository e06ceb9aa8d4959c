"""The `audiocnn` command; this file lists its commands.

They import what they need inside, so that `audiocnn --help` does not wait for PyTorch and MLflow.
"""

import os
from collections.abc import Callable

import typer

from pipeline.cli import (
    cache,
    classify,
    cleanup,
    doctor,
    endpoint,
    history,
    kubeflow,
    kubeflow_runs,
    lineage,
    model_versions,
    reproduce,
    run,
    servers,
    status,
)
from pipeline.cli.options import Commands, handle_errors

# Before PyTorch is loaded: threads that spin while they wait take the CPU from TorchServe and other programs. On two
# busy cores a training takes twice as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Classify environmental sounds: from labeled clips to a REST endpoint. Settings are in params.yaml.",
)
cache_app = typer.Typer(no_args_is_help=True, help="Show the spectrogram cache, or limit its size.")
PANELS: dict[str, tuple[Callable[..., None], ...]] = {
    "Run": (run.demo, run.run, run.crossval, run.sweep, kubeflow.submit),
    "Registry": (
        status.status,
        model_versions.deploy,
        model_versions.approve,
        model_versions.rollback,
        model_versions.reconcile,
        lineage.lineage,
        history.history,
        history.adopt,
        cleanup.gc,
        reproduce.reproduce,
    ),
    "Endpoint": (classify.classify, servers.serve, endpoint.key),
    "This machine": (doctor.doctor, servers.mlflow, servers.down),
}
for panel, commands in PANELS.items():
    for command in commands:
        app.command(rich_help_panel=panel)(handle_errors()(command))
app.add_typer(cache_app, name="cache", rich_help_panel="This machine")
for command in (cache.status, cache.gc):
    cache_app.command()(handle_errors()(command))
runs_app = typer.Typer(help="List the runs on a Kubeflow cluster, or show, cancel or retry one.")
runs_app.callback(invoke_without_command=True)(handle_errors()(kubeflow_runs.list_runs))
for command in (kubeflow_runs.show, kubeflow_runs.cancel, kubeflow_runs.retry):
    runs_app.command()(handle_errors()(command))
app.add_typer(runs_app, name="runs", rich_help_panel="Run")
