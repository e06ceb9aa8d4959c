"""The connection to MLflow: its address, retries, and errors in one sentence."""

import logging
import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar
from urllib.parse import unquote, urlsplit, urlunsplit

from filelock import FileLock
from tenacity import Retrying, retry_if_exception, stop_after_attempt, stop_after_delay, wait_fixed, wait_random

from audiocnn.errors import AudioCNNError
from mlops.kubeflow_run import MLFLOW_EXPERIMENT_ID
from mlops.settings import is_http_address, is_loopback

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

P = ParamSpec("P")
T = TypeVar("T")
URI = "MLFLOW_TRACKING_URI"
EXPERIMENT = "MLFLOW_EXPERIMENT_NAME"
DATABASE = Path("var/mlflow.db")
ARTIFACTS = "mlflow-artifacts"  # the folder of all artifacts, beside a SQLite database
# Columns of MLflow's tables that contain addresses of artifacts.
ARTIFACT_COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
)
LOCK_SECONDS = 60  # MLflow itself waits 20 seconds for a locked SQLite file, too short for many trainings at once
CONNECT_ATTEMPTS = 3
# Defaults for environment variables of MLflow. Its HTTP client would retry for 15 minutes; with these it gives up after
# one minute if connections are refused, and after four if they time out.
DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "5",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # Files go through the server: clients may be unable to reach its S3, as with docker/compose.yaml.
    "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",
    "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
# MLflow raises their errors too.
LIBRARIES = frozenset({"mlflow", "requests", "urllib3", "sqlalchemy", "botocore", "boto3"})


class TrackingError(AudioCNNError):
    """MLflow cannot be reached, or refuses a request. The message contains the URI without credentials."""


@dataclass(frozen=True)
class Connection:
    """An MLflow server or database: its tracking URI, without credentials for HTTP, and a client of it."""

    uri: str
    client: "MlflowClient"

    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function of MLflow, with retries while another process locks the SQLite file.

        Raises:
            TrackingError: MLflow refused the request, or did not answer within its retries.
        """
        with _tracking_errors(self.uri):
            return _retry_while_locked(function, *args, **kwargs)

    def find(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        """Like `call`, but return None if MLflow reports that the entity does not exist."""
        from mlflow.exceptions import MlflowException

        with _tracking_errors(self.uri):
            try:
                return _retry_while_locked(function, *args, **kwargs)
            except MlflowException as error:
                # The registry reports an unknown alias as an invalid parameter.
                unknown_alias = "alias" in str(error) and "not found" in str(error)
                if unknown_alias or error.error_code in ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"):
                    return None
                raise

    def upsert(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Like `call`, for a function that inserts or replaces a row.

        Of two concurrent inserts of the same row one fails; repeated, it finds the row.
        """
        try:
            return self.call(function, *args, **kwargs)
        except TrackingError as error:
            if not re.search("unique|duplicate", str(error), re.IGNORECASE):
                raise
        return self.call(function, *args, **kwargs)

    def experiment_id(self) -> str:
        """Return the id of the experiment to record runs in.

        It is MLFLOW_EXPERIMENT_NAME, else MLFLOW_EXPERIMENT_ID, else `audiocnn`; one of that name is created if
        necessary.
        """
        if (given := os.environ.get(MLFLOW_EXPERIMENT_ID)) and not os.environ.get(EXPERIMENT):
            return given
        name = experiment_name()
        experiment = self.find_or_create_experiment(name)
        if experiment.lifecycle_stage != "active":
            raise TrackingError(
                f"MLflow at {redact(self.uri)}: the experiment {name!r} is deleted; restore it, or set {EXPERIMENT} "
                "to another name"
            )
        return str(experiment.experiment_id)

    def find_or_create_experiment(self, name: str) -> "Experiment":
        """Return the experiment of that name, which may be deleted; create it if there is none."""
        if (found := self.call(self.client.get_experiment_by_name, name)) is None:
            try:
                return self.call(self.client.get_experiment, self.call(self.client.create_experiment, name))
            except TrackingError:  # another process may have created it in the meantime
                found = self.call(self.client.get_experiment_by_name, name)
                if found is None:
                    raise
        return found

    def artifacts(self, location: str) -> "ArtifactRepository":
        """Return MLflow's access to the artifacts at an address."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        return self.call(get_artifact_repository, location, tracking_uri=self.uri)


def experiment_name() -> str:
    return os.environ.get(EXPERIMENT) or "audiocnn"


def connect() -> Connection:
    """Connect to the MLflow of MLFLOW_TRACKING_URI, by default var/mlflow.db in the working directory.

    MLFLOW_TRACKING_URI is set to its URI, without credentials, for functions of MLflow that take no client.

    Raises:
        TrackingError: the URI is invalid, the server does not answer within a few seconds, or the database cannot be
            opened.
    """
    for key, value in DEFAULTS.items():
        os.environ.setdefault(key, value)
    # Relative: SQLAlchemy would take a `?` in the path for the beginning of options.
    uri = os.environ.get(URI) or f"sqlite:///{DATABASE}"
    if is_http_address(uri):
        uri = _move_credentials(uri)
    os.environ[URI] = uri
    return _connect(uri)


def redact(text: str) -> str:
    """Remove user names and passwords from the URIs in a text."""
    return re.sub(r"//[^/@\s]+@", "//", text)


@cache
def _connect(uri: str) -> Connection:
    for name in ("mlflow.system_metrics", "mlflow.store.db.utils"):  # they log every start, stop and table
        logging.getLogger(name).setLevel(logging.WARNING)
    from mlflow import MlflowClient
    from mlflow.store.db.db_types import DATABASE_ENGINES

    if is_http_address(uri):
        _check_reachable(uri)
    elif uri.partition(":")[0].partition("+")[0] not in DATABASE_ENGINES:
        raise TrackingError(
            f"{URI} is {redact(uri)!r}, which is not a server or database of MLflow; set it to a URL such as "
            f"http://127.0.0.1:5000 or sqlite:///mlflow.db, or unset it to use {DATABASE}"
        )
    with _tracking_errors(uri):
        database = _sqlite_file(uri)
        if database is None:
            return Connection(uri, MlflowClient(uri, uri))
        try:
            database.parent.mkdir(parents=True, exist_ok=True)
            # MLflow creates its tables without a lock: two processes that create them at once would fail.
            with FileLock(f"{database}.lock", timeout=LOCK_SECONDS):
                # MLflow's default is ./mlruns. It inserts the path into an SQL statement, where a quote is an error.
                os.environ["_MLFLOW_SERVER_ARTIFACT_ROOT"] = database.with_name(ARTIFACTS).as_uri()
                client = MlflowClient(uri, uri)
                _retry_while_locked(client.get_experiment_by_name, "audiocnn")
                if database == DATABASE.resolve():
                    _retry_while_locked(_update_artifact_addresses, database)
        except OSError as error:
            raise TrackingError(f"MLflow at {uri}: cannot write to {database.parent}: {error}") from error
        return Connection(uri, client)


def _sqlite_file(uri: str) -> Path | None:
    """Return the file of a SQLite URI, None for other URIs."""
    from sqlalchemy import make_url

    file = make_url(uri).database if uri.startswith("sqlite:") else None
    return Path(file).resolve() if file else None


def _update_artifact_addresses(database: Path) -> None:
    """Update the absolute addresses of artifacts, in case that the working directory was moved or copied."""
    folder, root = f"/{DATABASE.with_name(ARTIFACTS)}", database.with_name(ARTIFACTS).as_uri()
    with closing(sqlite3.connect(database)) as connection, connection:
        for table, column in ARTIFACT_COLUMNS:
            rest = f"substr({column}, instr({column}, :folder) + length(:folder))"
            connection.execute(
                f"UPDATE {table} SET {column} = :root || {rest} "
                f"WHERE instr({column}, :folder) AND {column} != :root || {rest}",
                {"folder": folder, "root": root},
            )


def _move_credentials(uri: str) -> str:
    """Move user and password to the variables that MLflow reads, so that runs, models and logs do not contain them."""
    address = urlsplit(uri)
    if address.username:
        os.environ.setdefault("MLFLOW_TRACKING_USERNAME", unquote(address.username))
        os.environ.setdefault("MLFLOW_TRACKING_PASSWORD", unquote(address.password or ""))
    host = address.netloc.rpartition("@")[2]
    return urlunsplit((address.scheme, host, address.path.rstrip("/"), "", ""))


def _check_reachable(uri: str) -> None:
    """Fail within seconds if the server is down; MLflow's client would retry for a minute or more."""
    import requests

    if is_loopback(uri):  # a proxy cannot reach this machine
        excluded = os.environ.get("no_proxy") or os.environ.get("NO_PROXY", "")
        os.environ["no_proxy"] = f"{excluded},{urlsplit(uri).hostname}".lstrip(",")
    retrying = Retrying(stop=stop_after_attempt(CONNECT_ATTEMPTS), wait=wait_fixed(1), reraise=True)
    try:
        retrying(requests.get, f"{uri}/health", timeout=(3, 10), allow_redirects=False)
    except requests.exceptions.SSLError:
        return  # the server is up; MLflow's client has its own settings for certificates
    except requests.RequestException as error:
        reason = "the request timed out" if isinstance(error, requests.Timeout) else "the connection failed"
        raise TrackingError(
            f"MLflow at {uri} cannot be reached: {reason}; start it, correct {URI}, or unset {URI} to use {DATABASE}"
        ) from None


def _retry_while_locked(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function; retry while SQLite reports that another process locks the database."""
    retrying = Retrying(
        retry=retry_if_exception(lambda error: "database is locked" in str(error)),
        stop=stop_after_delay(LOCK_SECONDS),
        wait=wait_random(0.05, 0.5),
        reraise=True,
    )
    return retrying(function, *args, **kwargs)


@contextmanager
def _tracking_errors(uri: str) -> Iterator[None]:
    """Turn errors of MLflow and its libraries into a TrackingError of one line; other errors are bugs."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise TrackingError(f"MLflow at {redact(uri)} needs the Python package {error.name}; install it") from None
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in LIBRARIES:
            raise
        lines = (str(error).strip() or type(error).__name__).splitlines()
        # A heading is followed by the name of a file between number signs, then by the reason.
        line = " ".join(part.strip("# ") for part in (lines[:3] if lines[0].endswith(":") else lines[:1]))
        # `from None`: the original text can contain a password, and tracebacks are logged.
        raise TrackingError(f"MLflow at {redact(uri)}{_refusal(error) or f': {redact(line)}'}") from None


def _refusal(error: Exception) -> str:
    """Return what to do after status 401 or 403; empty for other errors."""
    status = re.search(r"error code (40[13]) != 200|^(40[13]) Client Error", str(error))
    if status is None:
        return ""
    user = os.environ.get("MLFLOW_TRACKING_USERNAME")
    who = f"the user {user!r}" if user else "a request without a user"
    variables = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
    if "401" in status.groups():
        return f" does not accept {who} (HTTP 401); set {variables} to those of a user of this server"
    path = re.search(r"/api/\S+", str(error))
    return (
        f" does not permit {path[0] if path else 'this request'} to {who} (HTTP 403); ask an administrator for the "
        f"permission, or set {variables} to those of another user"
    )
