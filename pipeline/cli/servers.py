"""The commands serve, mlflow and down: the servers of this machine, TorchServe and the gateway, and MLflow's UI."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from mlops.process import ManagedProcess, ProcessError, is_port_free
from pipeline.cli.options import PARAMS, ParamsOption, SetOption, load_settings

if TYPE_CHECKING:
    from components.deploy.settings import DeploySettings
    from pipeline.settings import PipelineSettings

MLFLOW_UI = ManagedProcess("MLflow UI", Path("var/mlflow-ui.json"), Path("var/logs/mlflow-ui.log"))
MLFLOW_UI_PORTS = range(5000, 5020)
MLFLOW_UI_TIMEOUT = 240.0  # s, on a busy machine
MLFLOW_UI_ENVIRONMENT = {
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # the job runners are seven processes, and are not used
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
}


def serve(params: ParamsOption = PARAMS, set_: SetOption = []) -> None:  # noqa: B006  typer copies it
    """Run TorchServe and the gateway until Ctrl-C, and restart one that ends or hangs. Serves what was deployed last.

    `audiocnn deploy` starts the same in the background. With deploy.start=false, only the gateway is run.
    """
    from serving.supervision.endpoint import Endpoint
    from serving.supervision.supervisor import supervise

    settings = load_settings(params, set_)
    deploy = settings.deploy.in_this_environment()
    endpoint = Endpoint(deploy, settings.gateway, settings.decode, settings.register.name)
    supervise(endpoint, with_torchserve=deploy.start)
    typer.echo("[serve] stopped")


def mlflow(params: ParamsOption = PARAMS, set_: SetOption = []) -> None:  # noqa: B006  typer copies it
    """Start MLflow's UI if none runs, and print the addresses of its runs and of the registered model."""
    name = load_settings(params, set_).register.name
    url = start_mlflow_ui()
    typer.echo(f"Runs:    {url}/#/experiments")
    typer.echo(f"Models:  {url}/#/models/{name}")  # the start page of MLflow 3 has no link to it


def down(params: ParamsOption = PARAMS, set_: SetOption = []) -> None:  # noqa: B006
    """Stop the servers that were started here: `audiocnn serve` with the gateway and TorchServe, and the MLflow UI."""
    stopped = stop_servers(load_settings(params, set_).deploy)
    typer.echo(f"Stopped: {', '.join(stopped)}" if stopped else "Nothing was running.")


def start_mlflow_ui() -> str:
    """Return the address of the MLflow UI, starting one if the runs are recorded on this machine."""
    from mlops import tracking

    uri = os.environ.get(tracking.URI, "")
    if uri.startswith(("http://", "https://")):
        return tracking.redact(uri)
    if MLFLOW_UI.find() is not None:
        return MLFLOW_UI.url
    port = next(filter(is_port_free, MLFLOW_UI_PORTS), None)
    if port is None:
        first, last = MLFLOW_UI_PORTS[0], MLFLOW_UI_PORTS[-1]
        raise ProcessError(f"MLflow UI: all ports from {first} to {last} are in use; free one")
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--backend-store-uri", uri or f"sqlite:///{tracking.DATABASE}"]
    environment = {**os.environ, **MLFLOW_UI_ENVIRONMENT}
    MLFLOW_UI.start(command, url, lambda: _is_healthy(url), MLFLOW_UI_TIMEOUT, environment)
    return url


def stop_servers(settings: "DeploySettings") -> list[str]:
    from serving.supervision import endpoint

    stopped = endpoint.stop(Path(settings.state))
    return [*stopped, MLFLOW_UI.name] if MLFLOW_UI.stop() else stopped


def check_deploy(settings: "PipelineSettings") -> None:
    """Check, before the alias `champion` moves, that deploy will be able to start the endpoint if it has to."""
    from serving.supervision.endpoint import Endpoint
    from serving.torchserve import server as torchserve

    if settings.deploy.in_this_environment().start:
        torchserve.check_startable(settings.deploy)
        Endpoint(settings.deploy, settings.gateway, settings.decode, settings.register.name).check_gateway()


def _is_healthy(url: str) -> bool:
    import requests

    try:
        return requests.get(f"{url}/health", timeout=2).ok
    except requests.RequestException:
        return False
