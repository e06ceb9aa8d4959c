"""Client of Kubeflow Trainer: creates, reads and deletes TrainJobs through Kubeflow's SDK."""

import json
import logging
from collections.abc import Callable, Collection
from contextlib import suppress
from functools import partial
from typing import Any

from kubeflow.common.types import KubernetesBackendConfig
from kubeflow.trainer import TrainerClient
from kubeflow.trainer.constants import constants
from kubeflow.trainer.types.types import TrainJob
from kubeflow_trainer_api.models import TrainerV1alpha1TrainJob
from kubernetes.client import ApiException
from kubernetes.config import ConfigException
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed
from urllib3.exceptions import HTTPError

from audiocnn.errors import AudioCNNError

COMPLETE, FAILED = constants.TRAINJOB_COMPLETE, constants.TRAINJOB_FAILED
FRAMEWORK = "torch"
TIMEOUT_SECONDS = 60.0
RBAC = "components/train/rbac.yaml"


class TrainJobError(AudioCNNError):
    """A TrainJob that cannot be started, or that failed."""


class KubernetesError(TrainJobError):
    """The Kubernetes API refuses a request."""


class UnavailableError(KubernetesError):
    """The Kubernetes API cannot be reached or is overloaded; a retry may succeed."""


_retry_outages = retry(
    retry=retry_if_exception_type(UnavailableError), stop=stop_after_delay(600), wait=wait_fixed(5), reraise=True
)  # the nodes train on while a control plane restarts


class TrainJobClient:
    """The TrainJobs of this process's namespace. All methods raise KubernetesError."""

    def __init__(self, config: KubernetesBackendConfig | None = None) -> None:
        """Connect with `config`, by default as the pod's service account, outside a cluster with the kubeconfig."""
        # The SDK logs a whole HTTP response if it cannot read Trainer's version, which is not needed here.
        logging.getLogger("kubeflow.trainer.backends.kubernetes.backend").setLevel(logging.ERROR)
        try:
            self._client = TrainerClient(config)
        except ConfigException as error:
            raise KubernetesError(
                f"no Kubernetes cluster is configured ({error}); set resources.nodes to 1 to train without one"
            ) from error
        self._backend = self._client.backend
        self.namespace: str = self._backend.namespace
        self._objects = (constants.GROUP, constants.VERSION, self.namespace, constants.TRAINJOB_PLURAL)

    def runtime_kind(self, name: str) -> str:
        """Return the kind of a training runtime for PyTorch: TrainingRuntime or ClusterTrainingRuntime."""
        runtime = self._call(f"training runtime {name} cannot be read", partial(self._client.get_runtime, name), (404,))
        if runtime is None:
            raise TrainJobError(
                f"trainjob.runtime: training runtime {name!r} does not exist; install Kubeflow Trainer's runtimes or "
                "choose one of `kubectl get trainingruntimes,clustertrainingruntimes`"
            )
        if runtime.trainer.framework != FRAMEWORK:
            raise TrainJobError(
                f"trainjob.runtime: training runtime {name!r} is for {runtime.trainer.framework}; choose one for "
                f"{FRAMEWORK}, which starts torchrun"
            )
        return str(runtime.kind.value)

    def create(self, manifest: dict[str, Any]) -> bool:
        """Start a TrainJob. Return whether it is new: False if one of its name exists."""
        body = TrainerV1alpha1TrainJob.from_dict(manifest).to_dict()
        create = partial(self._backend.custom_api.create_namespaced_custom_object, *self._objects, body)
        stored = self._call("TrainJob cannot be created", partial(create, _request_timeout=TIMEOUT_SECONDS), (409,))
        if stored is None:
            return False
        # The API server silently drops unknown fields: the nodes would start without the shared volume.
        if dropped := sorted(set(body["spec"]) - set(stored["spec"])):
            self.delete(body["metadata"]["name"])
            raise TrainJobError(
                f"the cluster's Kubeflow Trainer does not support {', '.join(dropped)}; install version 2.3 or newer"
            )
        return True

    @_retry_outages
    def get(self, name: str) -> TrainJob | None:
        """Return a TrainJob with its status and the phases of its pods (`steps`); None if it does not exist."""
        get, what = partial(self._client.get_job, name), f"state of TrainJob {name} cannot be read"
        job: TrainJob | None = self._call(what, get, (404,))
        return job

    @_retry_outages
    def log(self, name: str, node: str) -> list[str]:
        """Return the lines that a node has printed; none before its container has started."""
        read = partial(self._client.get_job_logs, name, step=node)
        # 400: the container is being created. 404: the pod is gone.
        return self._call(f"log of TrainJob {name} cannot be read", lambda: list(read()), (400, 404)) or []

    def delete(self, name: str) -> None:
        self._call(f"TrainJob {name} cannot be deleted", partial(self._client.delete_job, name), (404,))

    def _call(self, what: str, function: Callable[[], Any], none_for: Collection[int] = ()) -> Any:
        """Call the SDK, and return None for the HTTP statuses `none_for`; `what` begins the message of an error."""
        try:
            return function()
        except (RuntimeError, ApiException, HTTPError, OSError) as error:
            # The SDK wraps the exceptions of the Kubernetes client in RuntimeErrors.
            cause = error.__cause__ or error if isinstance(error, RuntimeError) else error
            status = int(cause.status or 0) if isinstance(cause, ApiException) else 0
            if status in none_for:
                return None
            if status in (401, 403):
                account = f"the service account of this pod lacks permissions in namespace {self.namespace}"
                raise KubernetesError(f"{what}: {account}; apply {RBAC}") from error
            refused = 0 < status < 500 and status != 429
            if refused or not isinstance(cause, ApiException | HTTPError | OSError):
                raise KubernetesError(f"{what}: {_message(cause)}") from error
            answer = f"answers {status}" if status else "does not answer; check the network and the address"
            host = self._backend.core_api.api_client.configuration.host
            raise UnavailableError(f"{what}: the Kubernetes API at {host} {answer}") from error


def _message(error: BaseException) -> str:
    with suppress(ValueError, KeyError, TypeError):
        return str(json.loads(getattr(error, "body", ""))["message"])
    return " ".join(str(error).split())
