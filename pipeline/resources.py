"""What each task requests from a Kubernetes cluster. KFP ignores all of it in local runs.

mlops/cluster.py lists the secrets and the volume that the namespace of the runs has to contain.
"""

import math
from typing import Any

from kfp import kubernetes
from kfp.dsl import PipelineTask
from kubernetes.utils import parse_quantity

from components.ingest.sources import DVC_REMOTE
from components.train.settings import ResourceSettings
from mlops.cluster import (
    SHARED_MEMORY,
    SHARED_MEMORY_SIZE,
    STATE_CLAIM,
    STATE_FOLDER,
    STORAGE,
    TRACKING,
    TRACKING_LOGIN,
    TRAINING,
    WEBHOOK,
    Resources,
    Secret,
)
from mlops.tracking.signature import SIGNING_KEY, VERIFY_KEY
from serving.torchserve.variables import DEPLOY_LABEL, SECRET, SECRET_KEYS

SIGNING = Secret("audiocnn-signing", {"signing-key": SIGNING_KEY}, optional=True)
VERIFYING = Secret("audiocnn-signing", {"verify-key": VERIFY_KEY}, optional=True)
DVC = Secret(STORAGE.name, {"dvc-remote": DVC_REMOTE}, optional=True)
SERVING = Secret(SECRET, SECRET_KEYS, optional=True)  # without it, deploy.start=false names another TorchServe
LIGHT = Resources(cpu="500m", memory="1Gi", memory_limit="4Gi")
DECODING = Resources(cpu="2", memory="2Gi", memory_limit="8Gi")
API_LABEL = ("access-ml-pipeline", "true")  # of pods that Kubeflow's PodDefault gives a service-account token
LIGHT_HOURS, DECODING_HOURS = 1.0, 12.0  # time limits; a download of a large data set takes long
MARGIN_HOURS = 1.0  # of a task beyond the limit of the TrainJob that it waits for


def set_resources(task: PipelineTask, resources: Resources = LIGHT, hours: float = LIGHT_HOURS) -> PipelineTask:
    """Request CPU and memory, limit the time of each attempt, and run the task as a user other than root."""
    task.set_cpu_request(resources.cpu).set_memory_request(resources.memory)
    task.set_memory_limit(resources.memory_limit)
    kubernetes.set_timeout(task, math.ceil(3600 * hours))
    return kubernetes.set_security_context(task, run_as_non_root=True)


def set_retries(task: PipelineTask, seconds: int = 30) -> PipelineTask:
    """Repeat a failed task twice, first after `seconds`: its network may fail, and its node may be preempted."""
    return task.set_retry(num_retries=2, backoff_duration=f"{seconds}s", backoff_factor=2)


def use_serving(task: PipelineTask) -> PipelineTask:
    """Set the model store and the keys of the cluster's TorchServes, and the label that lets the task manage them.

    The model store may be a folder of the volume.
    """
    kubernetes.add_pod_label(task, *DEPLOY_LABEL)
    return mount_state(use_secrets(task, SERVING))


def use_mlflow(task: PipelineTask) -> PipelineTask:
    """Set MLflow's address and login, and the credentials for S3, where it may keep artifacts.

    A pod without the address does not start: its runs would be lost.
    """
    return use_secrets(task, TRACKING, TRACKING_LOGIN, STORAGE)


def use_webhook(task: PipelineTask) -> PipelineTask:
    """Set the URL to which failed runs are reported, if there is one, and request a token for Kubeflow's API."""
    kubernetes.add_pod_label(task, *API_LABEL)
    return use_secrets(task, WEBHOOK)


def use_secrets(task: PipelineTask, *secrets: Secret) -> PipelineTask:
    """Set environment variables from the keys of secrets."""
    for secret in secrets:
        kubernetes.use_secret_as_env(task, secret.name, dict(secret.variables), optional=secret.optional)
    return task


def mount_state(task: PipelineTask) -> PipelineTask:
    """Mount the volume that outlives a run: downloads, the spectrogram cache, checkpoints."""
    return kubernetes.mount_pvc(task, pvc_name=STATE_CLAIM, mount_path=STATE_FOLDER)


def request_training(task: PipelineTask, resources: ResourceSettings, gpus: Any) -> PipelineTask:
    """Request CPUs, memory, GPUs and the nodes that have them, and shared memory for workers that exchange batches.

    Args:
        gpus: their number, or the output of a task that returns it as text; Kubeflow reads a numeric output as empty.
    """
    memory = min(TRAINING.memory, resources.memory_per_node, key=parse_quantity)  # a request must not exceed the limit
    requested = Resources(resources.cpu_per_node, memory, resources.memory_per_node)
    set_resources(task, requested, resources.max_hours + MARGIN_HOURS)
    task.set_accelerator_type(resources.gpu).set_accelerator_limit(gpus)
    for label, value in resources.node_selector.items():
        kubernetes.add_node_selector(task, label, value)
    for toleration in resources.tolerations:
        kubernetes.add_toleration(task, **toleration.manifest())
    return kubernetes.empty_dir_mount(
        task, "shared-memory", SHARED_MEMORY, medium="Memory", size_limit=SHARED_MEMORY_SIZE
    )
