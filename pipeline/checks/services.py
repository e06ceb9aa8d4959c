"""Checks of the services: MLflow, storage, TorchServe and the gateway."""

import os
import tempfile
from contextlib import suppress
from importlib.metadata import version as installed_version
from pathlib import Path
from urllib.parse import urlsplit

import requests

from mlops import tracking
from mlops.process import is_port_free
from mlops.settings import is_http_address, is_loopback
from mlops.storage import StorageError, check_access
from mlops.tracking.connection import experiment_name
from pipeline.checks.result import Check, failure, info, ok, warning
from pipeline.settings import PipelineSettings
from serving.torchserve import server
from serving.torchserve.client import TorchServeClient, from_served_version
from serving.torchserve.replicas import find_replicas

TIMEOUTS = (2.0, 3.0)  # s to connect and to wait for a response
READY_TIMEOUT = 8.0  # s for the gateway, which itself waits up to 5 s for TorchServe
PROBE = "doctor.txt"  # the artifact that is written and deleted
MLFLOW_CREDENTIALS = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")


def check_mlflow(_: PipelineSettings) -> list[Check]:
    """Check that MLflow answers, accepts the credentials and stores artifacts."""
    name, given = "MLflow", os.environ.get(tracking.URI, "")
    if not given and not tracking.DATABASE.exists():
        return [ok(name, f"{tracking.DATABASE} does not exist yet; the first run creates it")]
    if is_http_address(given) and (reason := _unreachable(given)):
        remedy = f"start it, correct {tracking.URI}, or unset {tracking.URI} to use {tracking.DATABASE}"
        return [failure(name, f"{tracking.redact(given)} cannot be reached: {reason}", remedy)]
    connection = tracking.connect()  # like what follows, it raises TrackingError
    experiment = experiment_name()
    found = connection.call(connection.client.get_experiment_by_name, experiment)
    checks = [_check_mlflow_version(name, connection.uri)]
    if found is None:
        return [*checks, info("MLflow artifacts", f"not checked: the first run creates the experiment {experiment}")]
    location = str(found.artifact_location)
    try:
        _write_artifact(location, connection)
    except (tracking.TrackingError, OSError) as error:
        remedy = f"check the artifact store and the permissions of {MLFLOW_CREDENTIALS[0]}"
        return [*checks, failure("MLflow artifacts", f"{location} cannot be written: {error}", remedy)]
    return [*checks, ok("MLflow artifacts", f"{location} can be written")]


def _check_mlflow_version(name: str, uri: str) -> Check:
    if not is_http_address(uri):
        return ok(name, f"{tracking.redact(uri)} can be read")
    user, password = (os.environ.get(variable, "") for variable in MLFLOW_CREDENTIALS)
    answer = _session(uri).get(f"{uri}/version", timeout=TIMEOUTS, auth=(user, password) if user else None)
    served, installed = answer.text.strip(), installed_version("mlflow")
    message = f"{tracking.redact(uri)} answers, version {served}" + (f", to user {user}" if user else "")
    if served.partition(".")[0] == installed.partition(".")[0]:
        return ok(name, message)
    return warning(
        name, f"{message}; the client is version {installed}", "install the same major version on both sides"
    )


def _write_artifact(location: str, connection: tracking.Connection) -> None:
    """Write a small artifact beside those of the runs, and delete it if the user may do that."""
    repository = connection.artifacts(location)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, PROBE)
        file.write_text("written by `audiocnn doctor`\n", encoding="utf-8")
        connection.call(repository.log_artifact, str(file))
    with suppress(tracking.TrackingError):
        connection.call(repository.delete_artifacts, PROBE)


def check_storage(settings: PipelineSettings) -> list[Check]:
    """Write, read and delete a small file in each store of the settings: folders, or prefixes in S3."""
    stores = {"storage.cache": settings.storage.cache, "storage.checkpoints": settings.storage.checkpoints}
    if store := settings.deploy.in_this_environment().model_store:
        stores["deploy.model_store"] = store
    checks = []
    for name, address in stores.items():
        try:
            check_access(address)
            checks.append(ok(name, f"{address} can be written and read"))
        except (StorageError, OSError) as error:
            checks.append(failure(name, str(error)))
    return checks


def check_torchserve(settings: PipelineSettings) -> list[Check]:
    """Check that each TorchServe answers, accepts the key and serves the model, or that one can be started."""
    name = "TorchServe"
    deploy = settings.deploy.in_this_environment()
    if deploy.start and server.check_startable(deploy) is None:  # raises ServingError if a port is in use
        ports = ", ".join(str(urlsplit(url).port) for url in (deploy.inference, deploy.management, deploy.metrics))
        return [ok(name, f"not running; `audiocnn deploy` starts it, the ports {ports} are free")]
    return [_check_replica(name, client, settings.register.name) for client in find_replicas(deploy)]


def _check_replica(name: str, client: TorchServeClient, model: str) -> Check:
    if reason := _unreachable(client.management):
        remedy = "check that it runs, or set deploy.management and deploy.inference"
        return failure(name, f"{client.management} cannot be reached: {reason}", remedy)
    health, served = client.health(), client.default_version(model)
    if served is None:
        return warning(name, f"{client.inference}: {health}, serves no version of {model}", "`audiocnn deploy`")
    version = next(version for version in client.list_versions(model) if version.version == served)
    message = f"{client.inference}: {health}, serves {model} version {from_served_version(served) or served}"
    if version.ready_workers:
        return ok(name, message)
    return failure(name, f"{message}, but no worker is ready", "look at model_log.log in the logs of deploy.state")


def check_gateway(settings: PipelineSettings) -> list[Check]:
    """Check that the gateway answers, or that its port is free."""
    name, port = "Gateway", settings.gateway.port
    if is_port_free(port):
        return [ok(name, f"not running; port {port} is free")]
    url = settings.gateway.url
    try:
        answer = _session(url).get(f"{url}/readyz", timeout=(TIMEOUTS[0], READY_TIMEOUT))
        is_gateway = "json" in answer.headers.get("Content-Type", "")
    except requests.RequestException:
        is_gateway = False
    if not is_gateway:
        remedy = "stop it, or choose another port: --set gateway.port=8001"
        return [warning(name, f"port {port} is in use by another program", remedy)]
    if answer.ok:
        return [ok(name, f"{url} is ready")]
    return [warning(name, f"{url} answers with status {answer.status_code}: no model is ready", "`audiocnn deploy`")]


def _session(url: str) -> requests.Session:
    session = requests.Session()
    session.trust_env = not is_loopback(url)  # a proxy cannot reach this machine
    return session


def _unreachable(url: str) -> str:
    """Return why a server cannot be reached; empty if it answers, with whatever status."""
    try:
        _session(url).get(url, timeout=TIMEOUTS, allow_redirects=False)
    except requests.exceptions.SSLError:
        return ""  # it answers; MLflow's client has its own settings for certificates
    except requests.Timeout:
        return f"no answer within {TIMEOUTS[0]:g} s"
    except requests.RequestException:
        return "the connection failed"
    return ""
