"""The one place that talks to Kubeflow Trainer, through its SDK: TrainJobs, and its errors as sentences."""

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from kubeflow.common.types import KubernetesBackendConfig
from kubeflow.trainer import TrainerClient
from kubeflow.trainer.constants import constants
from kubeflow_trainer_api.models import TrainerV1alpha1TrainJob
from kubernetes.client import ApiException
from kubernetes.config import ConfigException
from urllib3.exceptions import HTTPError

from audiocnn.errors import AudioCNNError

COMPLETE, FAILED = constants.TRAINJOB_COMPLETE, constants.TRAINJOB_FAILED
FRAMEWORK = "torch"
TIMEOUT_SECONDS = 60.0
RBAC = "components/train/rbac.yaml"


class TrainJobError(AudioCNNError):
    """A TrainJob that cannot be started, or that failed."""


class ClusterError(TrainJobError):
    """The Kubernetes API cannot be reached, or refuses. `passing`: it may answer again by itself."""

    def __init__(self, message: str, passing: bool) -> None:
        super().__init__(message)
        self.passing = passing


@dataclass(frozen=True)
class State:
    """How far a TrainJob is.

    ended: "", COMPLETE or FAILED.    reason: the cluster's words for the end.    nodes: pod phases, by "node-0" and on.
    """

    ended: str
    reason: str
    nodes: Mapping[str, str]


class Trainer:
    """The TrainJobs of the namespace that this process runs in. All methods raise ClusterError."""

    def __init__(self, config: KubernetesBackendConfig | None = None) -> None:
        """Connect as the pod's service account, outside a cluster as the kubeconfig says, or by `config`."""
        # It warns with the whole HTTP answer where Trainer's version cannot be read, which nothing here needs.
        logging.getLogger("kubeflow.trainer.backends.kubernetes.backend").setLevel(logging.ERROR)
        try:
            self._client = TrainerClient(config)
        except ConfigException as error:
            raise ClusterError(
                f"there is no Kubernetes cluster here to train on several nodes ({error}); set trainjob.nodes to 1",
                passing=False,
            ) from error
        self._backend = self._client.backend
        self.namespace: str = self._backend.namespace
        self._objects = (constants.GROUP, constants.VERSION, self.namespace, constants.TRAINJOB_PLURAL)

    def runtime_kind(self, name: str) -> str:
        """TrainingRuntime or ClusterTrainingRuntime: which of the two a training runtime is.

        Raises:
            TrainJobError: there is none of that name, or it is not PyTorch's.
        """
        with self._errors(f"the training runtime {name} cannot be looked up"):
            try:
                runtime = self._client.get_runtime(name)
            except RuntimeError as error:
                if _status(error) != 404:
                    raise
                raise TrainJobError(
                    f"the cluster has no training runtime {name!r}: install Kubeflow Trainer's runtimes, or name one "
                    f"of `kubectl get trainingruntimes,clustertrainingruntimes` in trainjob.runtime"
                ) from error
        if runtime.trainer.framework != FRAMEWORK:
            raise TrainJobError(
                f"the training runtime {name!r} is one of {runtime.trainer.framework}; trainjob.runtime wants one of "
                f"{FRAMEWORK}, which starts torchrun"
            )
        return str(runtime.kind.value)

    def create(self, manifest: dict[str, Any]) -> bool:
        """Start a TrainJob, after its API models have accepted it; False where there is one of its name already.

        Raises:
            TrainJobError: the cluster's Trainer does not know all of its fields.
        """
        body = TrainerV1alpha1TrainJob.from_dict(manifest).to_dict()
        with self._errors("the TrainJob cannot be created"):
            try:
                create = self._backend.custom_api.create_namespaced_custom_object
                stored = create(*self._objects, body, _request_timeout=TIMEOUT_SECONDS)
            except ApiException as error:
                if error.status != 409:
                    raise
                return False
        # The API server drops what it does not know without a word: the nodes would start without the shared volume.
        if lost := sorted(set(body["spec"]) - set(stored["spec"])):
            self.delete(body["metadata"]["name"])
            raise TrainJobError(
                f"the cluster's Kubeflow Trainer knows no {', '.join(lost)}; install version 2.3 or newer"
            )
        return True

    def state(self, name: str) -> State | None:
        """None where there is no such TrainJob (any more)."""
        with self._errors(f"the state of TrainJob {name} cannot be read"):
            try:
                get = self._backend.custom_api.get_namespaced_custom_object
                job = get(*self._objects, name, _request_timeout=TIMEOUT_SECONDS)
            except ApiException as error:
                if error.status != 404:
                    raise
                return None
            steps = self._client.get_job(name).steps
        ended, reason = _end(job.get("status", {}).get("conditions", []))
        return State(ended, reason, {step.name: str(step.status) for step in steps})

    def log(self, name: str, node: str) -> list[str]:
        """What a node has printed so far; nothing where its container has not started."""
        with self._errors(f"the log of TrainJob {name} cannot be read"):
            try:
                return list(self._client.get_job_logs(name, step=node))
            except RuntimeError as error:
                if _status(error) not in (400, 404):  # the container is being created; the pod is gone
                    raise
                return []

    def delete(self, name: str) -> None:
        """Remove a TrainJob with its pods; one that is gone already counts as removed."""
        with self._errors(f"TrainJob {name} cannot be deleted"):
            try:
                self._client.delete_job(name)
            except RuntimeError as error:
                if _status(error) != 404:
                    raise

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        """The SDK's exceptions, and those of the Kubernetes client below it, as one sentence each."""
        try:
            yield
        except (RuntimeError, ApiException, HTTPError, OSError) as error:
            host, status = self._backend.core_api.api_client.configuration.host, _status(error)
            if status in (401, 403):
                raise ClusterError(
                    f"{what}: the service account of this pod may not do so in namespace {self.namespace}; "
                    f"grant it {RBAC}",
                    passing=False,
                ) from error
            if status == 429 or status >= 500:
                raise ClusterError(f"{what}: the Kubernetes API at {host} answers {status}", passing=True) from error
            if status or not isinstance(_under(error), ApiException | HTTPError | OSError):
                raise ClusterError(f"{what}: {_told(error)}", passing=False) from error
            raise ClusterError(f"{what}: the Kubernetes API at {host} does not answer; is it up?", True) from error


def _under(error: BaseException) -> BaseException:
    """What the SDK's RuntimeError wraps."""
    return error.__cause__ or error if isinstance(error, RuntimeError) else error


def _status(error: BaseException) -> int:
    """The HTTP status under an exception of the SDK; 0 where no answer came."""
    under = _under(error)
    return int(under.status or 0) if isinstance(under, ApiException) else 0


def _told(error: BaseException) -> str:
    """The API's own message, or the SDK's."""
    under = _under(error)
    if not isinstance(under, ApiException):
        return str(under)
    try:
        return str(json.loads(under.body)["message"])
    except (ValueError, KeyError, TypeError):
        return f"the Kubernetes API answers {under.status} {under.reason}"


def _end(conditions: list[dict[str, Any]]) -> tuple[str, str]:
    for condition in conditions:
        if condition["type"] in (COMPLETE, FAILED) and condition["status"] == "True":
            words = (condition.get("reason", ""), condition.get("message", ""))
            return condition["type"], ": ".join(filter(None, words))
    return "", ""
