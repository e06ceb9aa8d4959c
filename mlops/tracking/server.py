"""Where MLflow is, how it is reached, and what its failures mean for a person."""

import logging
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ParamSpec, TypeVar
from urllib.parse import unquote, urlsplit, urlunsplit

from filelock import FileLock
from tenacity import Retrying, retry_if_exception, stop_after_attempt, stop_after_delay, wait_fixed, wait_random

from audiocnn.errors import AudioCNNError

P = ParamSpec("P")
T = TypeVar("T")
URI = "MLFLOW_TRACKING_URI"
EXPERIMENT = "MLFLOW_EXPERIMENT_NAME"
DATABASE = Path("var/mlflow.db")
LOCK_SECONDS = 60  # how long a writer waits for other writers of one SQLite file; MLflow's own patience ends at 20
REACH_ATTEMPTS = 3
# Patience of MLflow's own HTTP client: about a minute for a server that restarts, four for one that swallows packets.
# MLflow's defaults would hang a quarter of an hour. A variable that is already set is left as it is.
DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "5",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


class TrackingError(AudioCNNError):
    """MLflow cannot be reached, or refuses; the message names the URI, without credentials, and what to do."""


@dataclass(frozen=True)
class Server:
    """An MLflow that answered: its URI, without credentials for HTTP, and a client bound to it."""

    uri: str
    client: Any

    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """One operation of MLflow, repeated while another process holds the SQLite file.

        Raises:
            TrackingError: MLflow refused, or did not answer within its retries.
        """
        patiently = Retrying(
            retry=retry_if_exception(_locked),
            stop=stop_after_delay(LOCK_SECONDS),
            wait=wait_random(0.05, 0.5),
            reraise=True,
        )
        try:
            return patiently(function, *args, **kwargs)
        except Exception as error:
            if not _of_mlflow(error):
                raise
            # `from None`: the cause's text can hold a password out of the URI, and tracebacks end up in logs.
            raise TrackingError(f"MLflow at {shown(self.uri)}: {_sentence(error)}") from None

    def found(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        """`call`, with None where MLflow says that the thing does not exist."""
        from mlflow.exceptions import MlflowException

        def quietly() -> T | None:
            try:
                return function(*args, **kwargs)
            except MlflowException as error:
                if _missing(error):
                    return None
                raise

        return self.call(quietly)

    def put(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`call` for what replaces a value: repeated once where another writer of the same value came in between.

        MLflow looks whether the row is there and else inserts it; of two that insert at once one fails, and finds the
        row the next time.
        """
        try:
            return self.call(function, *args, **kwargs)
        except TrackingError as error:
            if not re.search("unique|duplicate", str(error), re.IGNORECASE):
                raise
        return self.call(function, *args, **kwargs)


def server() -> Server:
    """The MLflow that MLFLOW_TRACKING_URI names, else var/mlflow.db below the working folder, made on first use.

    Raises:
        TrackingError: it does not answer within a few seconds.
    """
    for key, value in DEFAULTS.items():
        os.environ.setdefault(key, value)
    return _connect(os.environ.get(URI) or f"sqlite:///{DATABASE.resolve()}")


def experiment_id(at: Server) -> str:
    """The experiment that MLFLOW_EXPERIMENT_NAME names, else `audiocnn`; made where there is none."""
    name = os.environ.get(EXPERIMENT) or "audiocnn"
    known = at.call(at.client.get_experiment_by_name, name)
    if known is None:
        try:
            return str(at.call(_create_experiment, at, name))
        except TrackingError:
            # Somebody else may have made it in between; if not, the error stands.
            known = at.call(at.client.get_experiment_by_name, name)
            if known is None:
                raise
    if known.lifecycle_stage != "active":
        raise TrackingError(
            f"MLflow at {shown(at.uri)}: the experiment {name!r} is deleted; restore it, or set {EXPERIMENT} to another"
        )
    return str(known.experiment_id)


def shown(uri: str) -> str:
    """`uri`, or a text with URIs in it, without user and password."""
    return re.sub(r"//[^/@\s]+@", "//", uri)


def _create_experiment(at: Server, name: str) -> str:
    if (database := _database(at.uri)) is None:
        return str(at.client.create_experiment(name))
    # Without a server MLflow would put artifacts into ./mlruns, wherever the process happens to stand.
    folder = database.with_name("mlflow-artifacts")
    return str(at.client.create_experiment(name, artifact_location=folder.as_uri()))


@cache
def _connect(uri: str) -> Server:
    if urlsplit(uri).scheme in ("http", "https"):
        uri = _without_credentials(uri)
        _reach(uri)
    import mlflow

    for chatter in ("mlflow.system_metrics", "mlflow.store.db.utils"):  # the latter tells of every table that it makes
        logging.getLogger(chatter).setLevel(logging.WARNING)
    database = _database(uri)
    at = Server(uri, None)
    if database is None:
        return Server(uri, at.call(mlflow.MlflowClient, uri, uri))
    try:
        database.parent.mkdir(parents=True, exist_ok=True)
        # MLflow makes its tables without a lock; two first users at once would break each other.
        with FileLock(f"{database}.lock", timeout=LOCK_SECONDS):
            client = at.call(mlflow.MlflowClient, uri, uri)
            at.call(client.get_experiment_by_name, "audiocnn")
    except OSError as error:
        raise TrackingError(f"MLflow at {uri}: {database.parent} cannot be used: {error}") from error
    return Server(uri, client)


def _database(uri: str) -> Path | None:
    """The file of a SQLite URI, else None."""
    address = urlsplit(uri)
    if address.scheme != "sqlite" or not address.path.strip("/"):
        return None
    # Three slashes announce a relative path, four an absolute one (SQLAlchemy, database URLs).
    return Path(address.path.removeprefix("/")).resolve()


def _without_credentials(uri: str) -> str:
    """Move user and password to the variables that MLflow reads, so that no run, model or log records them."""
    address = urlsplit(uri)
    if address.username:
        os.environ.setdefault("MLFLOW_TRACKING_USERNAME", unquote(address.username))
        os.environ.setdefault("MLFLOW_TRACKING_PASSWORD", unquote(address.password or ""))
    host = address.netloc.rpartition("@")[2]
    return urlunsplit((address.scheme, host, address.path.rstrip("/"), "", ""))


def _reach(uri: str) -> None:
    """Ask a few times, briefly, whether anything answers: MLflow's client itself would try for minutes."""
    import requests

    patiently = Retrying(stop=stop_after_attempt(REACH_ATTEMPTS), wait=wait_fixed(1), reraise=True)
    try:
        patiently(requests.get, f"{uri}/health", timeout=(3, 10), allow_redirects=False)
    except requests.exceptions.SSLError:
        return  # something answers; which certificates to trust, MLflow's client knows from its own variables
    except requests.RequestException as error:
        reason = "it does not answer" if isinstance(error, requests.Timeout) else "nothing listens there"
        raise TrackingError(
            f"MLflow at {uri} cannot be reached: {reason}; start it, correct {URI}, or unset {URI} to record into "
            f"{DATABASE}"
        ) from None


def _of_mlflow(error: Exception) -> bool:
    """Whether MLflow, or a library through which it reaches its stores, raised this; other errors are bugs."""
    return type(error).__module__.partition(".")[0] in (
        "mlflow",
        "requests",
        "urllib3",
        "sqlalchemy",
        "botocore",
        "boto3",
    )


def _locked(error: BaseException) -> bool:
    return "database is locked" in str(error)


def _missing(error: Any) -> bool:
    return str(error.error_code) in ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND") or (
        # MLflow's registry reports an unknown alias as an invalid parameter.
        str(error.error_code) == "INVALID_PARAMETER_VALUE" and "alias" in str(error) and "not found" in str(error)
    )


def _sentence(error: Exception) -> str:
    """The first line of what MLflow says, without credentials."""
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    return shown(first)
