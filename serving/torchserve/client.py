"""Client of TorchServe's inference and management APIs."""

import json
import os
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import requests
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_exponential

from audiocnn.errors import AudioCNNError
from mlops.settings import is_loopback
from serving.torchserve.settings import TorchServeSettings
from serving.torchserve.variables import INFERENCE_KEYS

if TYPE_CHECKING:  # clients of the inference API need no storage
    from serving.torchserve.model_store import Index

Api = Literal["inference", "management"]
KEY_FILE = "key_file.json"  # written by TorchServe, readable by its owner only
CONNECT_TIMEOUT = 3.0  # s
READ_TIMEOUT = 30.0  # s for a response
CHANGE_TIMEOUT = 120.0  # s for a response after TorchServe has unpacked an archive or stopped a worker
LOG_HINT = "see model_log.log in the logs of deploy.state"
LOAD_TIMEOUT = 300.0  # s for workers to become ready; importing PyTorch takes 5 s on an idle laptop


class ServingError(AudioCNNError):
    """TorchServe does not respond or refuses a request. `status` is the HTTP status, 0 without a response."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class ServedVersion:
    """A version of a model that is registered in TorchServe."""

    version: str  # such as "7.48213"
    ready_workers: int  # number of workers that can answer
    worker_pids: Mapping[str, int]  # by the worker's id; -1 before it runs


class TorchServeClient:
    """Client of one TorchServe. Its methods raise ServingError.

    Args:
        key_file: file with TorchServe's own keys of both APIs, read at each request, if it exists.
        key: key of the inference API, if there is no key file: a TorchServe in a container.
        max_timeout: longest time in s to wait for any response.
    """

    def __init__(
        self,
        inference: str,
        management: str,
        key_file: Path | None = None,
        key: str = "",
        max_timeout: float = CHANGE_TIMEOUT,
    ) -> None:
        self.inference = inference.rstrip("/")
        self.management = management.rstrip("/")
        self.key_file = key_file
        self.key = key
        self.max_timeout = max_timeout
        self._session = requests.Session()
        # A proxy or ~/.netrc must not affect requests to this machine.
        self._session.trust_env = not (is_loopback(self.inference) and is_loopback(self.management))

    @classmethod
    def from_settings(cls, settings: TorchServeSettings, max_timeout: float = CHANGE_TIMEOUT) -> Self:
        """Create a client for the addresses of the settings.

        The keys are those of the settings' state folder, or the first one of the environment.
        """
        key_file = Path(settings.state) / KEY_FILE
        return cls(settings.inference, settings.management, key_file, environment_key(), max_timeout)

    def health(self) -> str:
        """Return "Healthy", or "Partial Healthy" if some workers do not run."""
        return str(self._request("GET", "inference", "/ping")["status"])

    def list_models(self) -> list[str]:
        """Return the names of the registered models."""
        return [model["modelName"] for model in self._request("GET", "management", "/models?limit=1000")["models"]]

    def list_versions(self, name: str) -> list[ServedVersion]:
        """Return the registered versions of a model, none if it is not registered."""
        return [
            ServedVersion(
                version=item["modelVersion"],
                ready_workers=sum(worker["status"] == "READY" for worker in item["workers"]),
                worker_pids={worker["id"]: worker["pid"] for worker in item["workers"]},
            )
            for item in self._describe(f"{name}/all")
        ]

    def default_version(self, name: str) -> str | None:
        """Return the version that answers at the URL without a version; None if the model is not registered."""
        described = self._describe(name)
        return str(described[0]["modelVersion"]) if described else None

    def register(self, index: "Index", wait: bool = True) -> None:
        """Register an archive of the model store, and start its workers. The first version of a model is its default.

        Args:
            wait: until the workers are ready; if one does not become ready, unregister it.
        """
        query = {"url": index.archive, "batch_size": index.batch_size, "max_batch_delay": index.max_batch_delay_ms}
        # A synchronous call would block one of the threads that also serve clients.
        query |= {"initial_workers": index.workers, "synchronous": "false"}
        self._request("POST", "management", "/models", CHANGE_TIMEOUT, params=query)
        if not wait:
            return
        try:
            self._wait_for_workers(index.name, index.served_version, index.workers, max_starts=1)
        except BaseException:
            self.unregister(index.name, index.served_version)
            raise

    def set_default(self, name: str, version: str) -> None:
        """Make a registered version the one that answers at the URL without a version."""
        self._request("PUT", "management", f"/models/{name}/{version}/set-default")

    def scale_workers(self, name: str, version: str, workers: int) -> None:
        """Change the number of workers and wait until they are ready."""
        query = {"min_worker": workers, "max_worker": workers, "synchronous": "false"}
        self._request("PUT", "management", f"/models/{name}/{version}", CHANGE_TIMEOUT, params=query)
        self._wait_for_workers(name, version, workers, max_starts=2)  # one may have been ending before this call

    def unregister(self, name: str, version: str) -> None:
        """Stop and remove a version. TorchServe refuses to remove the default version while there are others."""
        self._request("DELETE", "management", f"/models/{name}/{version}", CHANGE_TIMEOUT)

    def prediction_url(self, name: str, version: str | None = None) -> str:
        """Return the URL to which clips are sent; without a version, the default one answers."""
        return f"{self.inference}/predictions/{name}" + (f"/{version}" if version else "")

    def predict(self, clip: bytes, name: str, version: str | None = None) -> dict[str, Any]:
        """Classify a sound file; return the answer that docs/serving.md describes."""
        path = self.prediction_url(name, version).removeprefix(self.inference)
        headers = {"Content-Type": "application/octet-stream"}  # TorchServe parses bodies without a content type
        answer: dict[str, Any] = self._request("POST", "inference", path, data=clip, headers=headers)
        return answer

    def _describe(self, path: str) -> list[dict[str, Any]]:
        try:
            described: list[dict[str, Any]] = self._request("GET", "management", f"/models/{path}")
        except ServingError as error:
            if error.status == 404:
                return []
            raise
        return described

    def _wait_for_workers(self, name: str, version: str, workers: int, max_starts: int) -> None:
        """Wait until all workers of a version are ready, and each was started at most `max_starts` times.

        TorchServe itself restarts a failing one for minutes.
        """
        model = f"{self.management}: {name} {version}"
        pids: dict[str, set[int]] = defaultdict(set)
        deadline = time.monotonic() + LOAD_TIMEOUT
        while time.monotonic() < deadline:
            served = next((item for item in self.list_versions(name) if item.version == version), None)
            if served is None:
                raise ServingError(f"{model} was unregistered while its workers started; deploy again")
            if served.ready_workers == len(served.worker_pids) == workers:
                return
            for worker, pid in served.worker_pids.items():
                if pid > 0:
                    pids[worker].add(pid)
            if any(len(started) > max_starts for started in pids.values()):
                raise ServingError(f"{model}: a worker ended while it loaded the model; {LOG_HINT}")
            time.sleep(0.2)
        raise ServingError(f"{model}: the workers are not ready after {LOAD_TIMEOUT:g} s; {LOG_HINT}")

    @retry(
        retry=retry_if_exception_type(requests.ConnectionError),
        stop=stop_after_attempt(3),
        wait=wait_exponential(0.2, max=2),
        reraise=True,
    )
    def _send(self, *args: Any, **kwargs: Any) -> requests.Response:
        return self._session.request(*args, **kwargs)

    def _request(self, method: str, api: Api, path: str, timeout: float = READ_TIMEOUT, **kwargs: Any) -> Any:
        """Send a request and return the JSON of the response."""
        timeout = min(timeout, self.max_timeout)
        base = self.inference if api == "inference" else self.management
        headers = kwargs.pop("headers", {})
        if self.key_file is not None and self.key_file.is_file():
            headers["Authorization"] = f"Bearer {read_key(self.key_file, api)}"
        elif self.key and api == "inference":
            headers["Authorization"] = f"Bearer {self.key}"
        try:
            response = self._send(method, base + path, timeout=(CONNECT_TIMEOUT, timeout), headers=headers, **kwargs)
        except requests.Timeout as error:
            raise ServingError(f"TorchServe at {base}: no response to {method} {path} within {timeout:g} s") from error
        except requests.RequestException as error:
            check = "`audiocnn deploy` starts it with the champion" if is_loopback(base) else "check that it runs"
            raise ServingError(
                f"TorchServe at {base} cannot be reached ({connection_problem(error)}): {check}, "
                f"or set deploy.{api} to its URL"
            ) from error
        if response.status_code not in (200, 202):
            raise ServingError(self._error_message(response, base), response.status_code)
        try:
            return response.json()
        except requests.JSONDecodeError as error:
            raise ServingError(f"{base}: the server is not TorchServe; set deploy.{api} to its URL") from error

    def _error_message(self, response: requests.Response, base: str) -> str:
        """Return one sentence from an error response of TorchServe or of the handler."""
        if response.status_code == 413 and not response.content:
            return f"{base}: the clip is larger than deploy.max_request_bytes"
        if response.status_code == 503:
            return f"{base}: the queue is full or no worker of the model runs; try again later (HTTP 503)"
        if response.status_code == 401:
            return f"{base} refuses the key; set {INFERENCE_KEYS} to a key of the endpoint (HTTP 401)"
        try:
            body = response.json()
        except requests.JSONDecodeError:
            body = {}
        if body.get("type") == "InvalidKeyException":
            return (
                f"TorchServe at {base} refuses the key in {self.key_file}: it was started with another state folder; "
                "set deploy.state to that folder, or stop that server and deploy again"
            )
        message = body.get("error") or body.get("message") or response.reason
        return f"{base}: {message} (HTTP {response.status_code})"


def from_served_version(served: str) -> int | None:
    """Convert a version in TorchServe to a version number of the registry: "7.48213" to 7.

    None if it was not registered by deploy.
    """
    number, _, release = served.partition(".")
    return int(number) if number.isdecimal() and release.isdecimal() else None


def connection_problem(error: BaseException) -> str:
    """Return the operating system's reason for a failed request, such as "Connection refused"."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return type(error).__name__


def environment_key() -> str:
    """Return the key that this process sends to a TorchServe in a container; empty without one."""
    return next(iter(os.environ.get(INFERENCE_KEYS, "").split()), "")


def read_key(path: Path, api: Api) -> str:
    """Read the token of an API from TorchServe's key file."""
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))[api]["key"])
    except (OSError, ValueError, KeyError) as error:
        raise ServingError(f"{path}: cannot read the {api} key; start TorchServe with `audiocnn deploy`") from error
