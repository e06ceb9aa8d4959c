"""The connection to MLflow: its address, retries, and errors in one sentence."""

import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar
from urllib.parse import unquote, urlsplit, urlunsplit

from filelock import FileLock
from tenacity import Retrying, retry_if_exception, stop_after_attempt, stop_after_delay, wait_fixed, wait_random

from audiocnn.errors import AudioCNNError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

P = ParamSpec("P")
T = TypeVar("T")
URI = "MLFLOW_TRACKING_URI"
EXPERIMENT = "MLFLOW_EXPERIMENT_NAME"
DATABASE = Path("var/mlflow.db")
LOCK_SECONDS = 60  # MLflow itself waits 20 seconds for a locked SQLite file, too short for many trainings at once
CONNECT_ATTEMPTS = 3
# Defaults for environment variables of MLflow. Its HTTP client would retry for 15 minutes; with these it gives up after
# one minute if connections are refused, and after four if they time out.
DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "5",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
# MLflow raises their errors too.
LIBRARIES = frozenset({"mlflow", "requests", "urllib3", "sqlalchemy", "botocore", "boto3"})


class TrackingError(AudioCNNError):
    """MLflow cannot be reached, or refuses a request. The message contains the URI without credentials."""


@dataclass(frozen=True)
class Connection:
    """An MLflow server or database.

    Attributes:
        uri: the tracking URI, for HTTP without credentials.
        client: a client of the tracking server and of its model registry.
    """

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
                if _is_missing(error):
                    return None
                raise

    def upsert(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Like `call`, for a function that inserts or replaces a row.

        MLflow updates the row if it exists, and inserts it otherwise. Of two concurrent inserts one fails; repeated, it
        finds the row.
        """
        try:
            return self.call(function, *args, **kwargs)
        except TrackingError as error:
            if not re.search("unique|duplicate", str(error), re.IGNORECASE):
                raise
        return self.call(function, *args, **kwargs)

    def experiment_id(self) -> str:
        """Return the id of the experiment MLFLOW_EXPERIMENT_NAME, by default `audiocnn`; create it if necessary.

        Raises:
            TrackingError: the experiment was deleted, or MLflow does not answer.
        """
        name = os.environ.get(EXPERIMENT) or "audiocnn"
        experiment = self.call(self.client.get_experiment_by_name, name)
        if experiment is None:
            try:
                return self._create_experiment(name)
            except TrackingError:
                # Another process may have created it in the meantime.
                experiment = self.call(self.client.get_experiment_by_name, name)
                if experiment is None:
                    raise
        if experiment.lifecycle_stage != "active":
            raise TrackingError(
                f"MLflow at {redact(self.uri)}: the experiment {name!r} is deleted; restore it, or set {EXPERIMENT} "
                "to another name"
            )
        return str(experiment.experiment_id)

    def _create_experiment(self, name: str) -> str:
        database = _sqlite_file(self.uri)
        # Without a server MLflow would write artifacts to ./mlruns, relative to the working directory.
        location = None if database is None else database.with_name("mlflow-artifacts").as_uri()
        return str(self.call(self.client.create_experiment, name, artifact_location=location))


def connect() -> Connection:
    """Connect to the MLflow of MLFLOW_TRACKING_URI, by default var/mlflow.db in the working directory.

    MLFLOW_TRACKING_URI is set to its URI, without credentials, for functions of MLflow that take no client.

    Raises:
        TrackingError: the server does not answer within a few seconds, or the database cannot be opened.
    """
    for key, value in DEFAULTS.items():
        os.environ.setdefault(key, value)
    # Relative: SQLAlchemy would take a `?` in the path for the beginning of options.
    uri = os.environ.get(URI) or f"sqlite:///{DATABASE}"
    if urlsplit(uri).scheme in ("http", "https"):
        uri = _move_credentials(uri)
    os.environ[URI] = uri
    return _connect(uri)


def redact(text: str) -> str:
    """Remove user names and passwords from the URIs in a text."""
    return re.sub(r"//[^/@\s]+@", "//", text)


@cache
def _connect(uri: str) -> Connection:
    if urlsplit(uri).scheme in ("http", "https"):
        _check_reachable(uri)
    from mlflow import MlflowClient

    for name in ("mlflow.system_metrics", "mlflow.store.db.utils"):  # they log every start, stop and table
        logging.getLogger(name).setLevel(logging.WARNING)
    with _tracking_errors(uri):
        database = _sqlite_file(uri)
        if database is None:
            return Connection(uri, MlflowClient(uri, uri))
        try:
            database.parent.mkdir(parents=True, exist_ok=True)
            # MLflow creates its tables without a lock: two processes that create them at once would fail.
            with FileLock(f"{database}.lock", timeout=LOCK_SECONDS):
                # MLflow inserts this path into an SQL statement, by default ./mlruns, where a quote is an error.
                os.environ["_MLFLOW_SERVER_ARTIFACT_ROOT"] = database.with_name("mlflow-artifacts").as_uri()
                client = MlflowClient(uri, uri)
                _retry_while_locked(client.get_experiment_by_name, "audiocnn")
        except OSError as error:
            raise TrackingError(f"MLflow at {uri}: cannot write to {database.parent}: {error}") from error
        return Connection(uri, client)


def _sqlite_file(uri: str) -> Path | None:
    """Return the file of a SQLite URI, None for other URIs."""
    address = urlsplit(uri)
    if address.scheme != "sqlite" or not address.path.strip("/"):
        return None
    # SQLAlchemy: a path after three slashes is relative, after four absolute.
    return Path(address.path.removeprefix("/")).resolve()


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
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in LIBRARIES:
            raise
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        # `from None`: the original text can contain a password, and tracebacks are logged.
        raise TrackingError(f"MLflow at {redact(uri)}: {redact(line)}") from None


def _is_missing(error: "MlflowException") -> bool:
    code = str(error.error_code)
    # The registry reports an unknown alias as an invalid parameter.
    unknown_alias = code == "INVALID_PARAMETER_VALUE" and "alias" in str(error) and "not found" in str(error)
    return code in ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND") or unknown_alias
