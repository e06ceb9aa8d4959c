"""TorchServe's HTTP APIs: what it serves, registering and switching versions, asking for a prediction."""

import json
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import requests
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_exponential

from audiocnn.errors import AudioCNNError
from components.deploy.settings import DeploySettings

KEYS = "key_file.json"  # TorchServe writes it, readable by its owner only, into the folder that it runs in
LOOPBACK = ("127.0.0.1", "localhost", "::1")
READ = (3.0, 30.0)  # s, to connect and to wait for an answer
CHANGE = (3.0, 120.0)  # unpacking an archive, ending a worker
LOADING = 300.0  # s for workers to become ready; each imports PyTorch first: 5 s on an idle laptop


class ServingError(AudioCNNError):
    """TorchServe does not answer, or refuses; `status` is its HTTP status, 0 where there was no answer."""

    def __init__(self, sentence: str, status: int = 0) -> None:
        super().__init__(sentence)
        self.status = status


@dataclass(frozen=True)
class Served:
    """One version of a model in TorchServe: its name for the version, its archive, how many of its workers are ready,
    and the process id of each worker."""

    version: str
    archive: str
    ready: int
    processes: Mapping[str, int]


class TorchServe:
    """One TorchServe. Calls that change nothing, or twice the same, are tried three times; the others once."""

    def __init__(self, inference: str, management: str, keys: Path | None = None) -> None:
        """Args: the two base URLs, and the key file where tokens are asked for; it may appear or change later."""
        self.inference = inference.rstrip("/")
        self.management = management.rstrip("/")
        self.keys = keys
        self._http = requests.Session()
        # A company's proxy and ~/.netrc are for the world outside; both would come between us and a server on this
        # machine.
        self._http.trust_env = not (is_local(self.inference) and is_local(self.management))

    @classmethod
    def of(cls, settings: DeploySettings) -> Self:
        """The one that the block `deploy` names."""
        return cls(settings.inference, settings.management, Path(settings.state) / KEYS)

    def ping(self) -> str:
        """Its health in its own word: Healthy, Partial Healthy or Unhealthy.

        Raises:
            ServingError: it does not answer, or not to these keys.
        """
        return str(self._safely("GET", "inference", "/ping")["status"])

    def answers(self) -> bool:
        """Whether anything at all speaks HTTP at the management URL."""
        try:
            self._http.get(f"{self.management}/models", timeout=(1.0, 2.0))
        except requests.RequestException:
            return False
        return True

    def models(self) -> list[str]:
        """The names of the registered models."""
        return [model["modelName"] for model in self._safely("GET", "management", "/models?limit=1000")["models"]]

    def describe(self, name: str) -> list[Served]:
        """All registered versions of a model; none where it is not registered."""
        try:
            known = self._safely("GET", "management", f"/models/{name}/all")
        except ServingError as error:
            if error.status == 404:
                return []
            raise
        return [
            Served(
                item["modelVersion"],
                item["modelUrl"],
                sum(worker["status"] == "READY" for worker in item["workers"]),
                {worker["id"]: worker["pid"] for worker in item["workers"]},
            )
            for item in known
        ]

    def default(self, name: str) -> str | None:
        """The version that answers at the URL without one; None where the model is not registered."""
        try:
            return str(self._safely("GET", "management", f"/models/{name}")[0]["modelVersion"])
        except ServingError as error:
            if error.status == 404:
                return None
            raise

    def register(
        self, archive: str, name: str, version: str, *, batch_size: int, max_batch_delay_ms: int, workers: int
    ) -> None:
        """Load an archive of the model store, which holds that version; returns once its workers are ready.

        The first version of a model becomes its default. One whose workers do not start is not kept.
        """
        # Not `synchronous`: TorchServe would wait in one of the threads that also take the clients' requests, and those
        # that fall to this thread would hang until the workers are up.
        query: dict[str, Any] = {
            "url": archive,
            "initial_workers": workers,
            "synchronous": "false",
            "batch_size": batch_size,
            "max_batch_delay": max_batch_delay_ms,
        }
        self._call("POST", "management", "/models", CHANGE, params=query)
        try:
            self._wait_for_workers(name, version, workers, starts=1)
        except BaseException:
            self.unregister(name, version)
            raise

    def set_default(self, name: str, version: str) -> None:
        """Make a registered version the one that answers at the URL without one."""
        self._safely("PUT", "management", f"/models/{name}/{version}/set-default")

    def scale(self, name: str, version: str, workers: int) -> None:
        """Run as many workers; returns once they are ready."""
        query: dict[str, Any] = {"min_worker": workers, "max_worker": workers, "synchronous": "false"}
        self._call("PUT", "management", f"/models/{name}/{version}", CHANGE, params=query)
        self._wait_for_workers(name, version, workers, starts=2)  # one of them may be on its way down when we come

    def unregister(self, name: str, version: str) -> None:
        """Stop and forget a version; TorchServe refuses the default one while there are others."""
        self._call("DELETE", "management", f"/models/{name}/{version}", CHANGE)

    def url(self, name: str, version: str | None = None) -> str:
        """Where the model, or one version of it, takes clips."""
        return f"{self.inference}/predictions/{name}" + (f"/{version}" if version else "")

    def predict(self, clip: bytes, name: str, version: str | None = None) -> dict[str, Any]:
        """The answer to one clip.

        Raises:
            ServingError: with the server's sentence and status, 400 to 422 where the clip is at fault.
        """
        path = self.url(name, version).removeprefix(self.inference)
        headers = {"Content-Type": "application/octet-stream"}  # without one, or as a form, TorchServe parses the body
        answer: dict[str, Any] = self._safely("POST", "inference", path, data=clip, headers=headers)
        return answer

    def _wait_for_workers(self, name: str, version: str, workers: int, starts: int) -> None:
        """
        Args:
            starts: TorchServe starts a worker that dies anew, for minutes; after so many starts it is given up.
        Raises:
            ServingError: a worker died, the version is gone, or it took too long.
        """
        processes: dict[str, set[int]] = defaultdict(set)
        began = time.monotonic()
        while time.monotonic() - began < LOADING:
            served = next((item for item in self.describe(name) if item.version == version), None)
            if served is None:
                raise ServingError(f"{self.management}: {name} {version} is not registered any more")
            if served.ready == len(served.processes) == workers:
                return
            for worker, process in served.processes.items():
                if process > 0:  # -1 until it runs
                    processes[worker].add(process)
            if any(len(seen) > starts for seen in processes.values()):
                raise ServingError(f"{self.management}: a worker of {name} {version} died while it loaded the model")
            time.sleep(0.2)
        raise ServingError(f"{self.management}: the workers of {name} {version} are not ready after {LOADING:g} s")

    @retry(
        retry=retry_if_exception_type(requests.ConnectionError),
        stop=stop_after_attempt(3),
        wait=wait_exponential(0.2, max=2),
        reraise=True,
    )
    def _retried(self, *call: Any, **more: Any) -> requests.Response:
        return self._http.request(*call, **more)

    def _safely(self, method: str, api: str, path: str, **more: Any) -> Any:
        return self._call(method, api, path, READ, safe=True, **more)

    def _call(
        self, method: str, api: str, path: str, timeout: tuple[float, float], safe: bool = False, **more: Any
    ) -> Any:
        base = self.inference if api == "inference" else self.management
        headers = {**self._authorization(api), **more.pop("headers", {})}
        send = self._retried if safe else self._http.request
        try:
            response = send(method, base + path, timeout=timeout, headers=headers, **more)
        except requests.Timeout as error:
            raise ServingError(f"TorchServe at {base}: no answer to {method} {path} in {timeout[1]:g} s") from error
        except requests.RequestException as error:
            raise ServingError(
                f"no TorchServe answers at {base}: start one with `audiocnn deploy`, or set deploy.{api} to its URL"
            ) from error
        if response.status_code not in (200, 202):
            raise ServingError(self._refusal(response, base), response.status_code)
        try:
            return response.json()
        except requests.JSONDecodeError as error:
            raise ServingError(f"{base}: answers {method} {path}, but is no TorchServe; set deploy.{api}") from error

    def _authorization(self, api: str) -> dict[str, str]:
        if self.keys is None or not self.keys.is_file():
            return {}
        return {"Authorization": f"Bearer {read_key(self.keys, api)}"}

    def _refusal(self, response: requests.Response, base: str) -> str:
        """One sentence from a refusal's body, which is TorchServe's, the handler's, or nothing at all."""
        if response.status_code == 413 and not response.content:
            return f"{base}: the clip is larger than the server takes (deploy.max_request_bytes)"
        if response.status_code == 503:
            return f"{base}: the server is busy, or no worker of the model is up; ask again in a while (HTTP 503)"
        try:
            body = response.json()
        except requests.JSONDecodeError:
            body = {}
        if body.get("type") == "InvalidKeyException":
            return f"TorchServe at {base} refuses the key in {self.keys}: it is another one than was started there"
        sentence = body.get("error") or body.get("message") or response.reason
        return f"{base}: {sentence} (HTTP {response.status_code})"


def is_local(url: str) -> bool:
    """Whether a URL stays on this machine."""
    return urlsplit(url).hostname in LOOPBACK


def read_key(path: Path, api: str) -> str:
    """A key of TorchServe's key file, for `inference` or `management`.

    Raises:
        ServingError: the file is missing or no key file.
    """
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))[api]["key"])
    except (OSError, ValueError, KeyError) as error:
        raise ServingError(f"{path}: no {api} key can be read there; is TorchServe running?") from error
