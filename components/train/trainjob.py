"""A training on several nodes as a Kubeflow TrainJob: the settings, and the object that the cluster is given."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from components import cluster

API_VERSION = "trainer.kubeflow.org/v1alpha1"
NODE = "node"  # what every training runtime calls the job and the container of its nodes
MANAGER = "audiocnn.io/train"  # who patches the runtime's pods; Trainer wants one name for each that does
NO_SIDECAR = {"sidecar.istio.io/inject": "false"}  # a mesh's proxy outlives the training, and the pod never ends
QUANTITY = re.compile(r"[0-9]+(\.[0-9]+)?(m|[kMGT]i?)?")


@dataclass(frozen=True)
class TrainJobSettings:
    """The pipeline parameter `trainjob`: on how many nodes of the cluster to train, and what each is given.

    nodes: 1 trains in the task's own pod; more start a TrainJob with a pod on each.
    gpus_per_node: one process a GPU; 0 trains on the node's processors, in one process.
    cpu_per_node, memory_per_node: Kubernetes quantities.
    runtime: the training runtime, of the namespace or of the cluster, that the TrainJob starts from.
    max_hours: after so long the cluster ends the TrainJob.
    """

    nodes: int = 1
    gpus_per_node: int = 1
    cpu_per_node: str = cluster.TRAINING.cpu
    memory_per_node: str = cluster.TRAINING.memory_limit
    runtime: str = "torch-distributed"
    max_hours: float = 24.0

    def __post_init__(self) -> None:
        if self.nodes < 1:
            raise ValueError(f"nodes: must be at least 1, found {self.nodes}")
        if self.gpus_per_node < 0:
            raise ValueError(f"gpus_per_node: must not be negative, found {self.gpus_per_node}")
        for key in ("cpu_per_node", "memory_per_node"):
            if not QUANTITY.fullmatch(value := getattr(self, key)):
                raise ValueError(f"{key}: expected a Kubernetes quantity such as 500m or 32Gi, found {value!r}")
        if not self.runtime:
            raise ValueError("runtime: must name a training runtime, such as torch-distributed")
        if not 0 < self.max_hours < 10_000:
            raise ValueError(f"max_hours: must be above 0 and below 10000, found {self.max_hours}")

    @property
    def processes_per_node(self) -> int:
        """How many processes train side by side on one node."""
        return max(1, self.gpus_per_node)


def manifest(
    name: str, image: str, command: list[str], settings: TrainJobSettings, runtime_kind: str
) -> dict[str, Any]:
    """The TrainJob that runs `command` under torchrun on every node, with the volume and the secrets of the task train.

    Trainer's torch runtime tells torchrun the nodes, the processes and the first node's address in the variables PET_*.

    Args:
        command: a Python module and its arguments.
        runtime_kind: TrainingRuntime or ClusterTrainingRuntime.
    """
    return {
        "apiVersion": API_VERSION,
        "kind": "TrainJob",
        "metadata": {"name": name},
        "spec": {
            "runtimeRef": {
                "apiGroup": API_VERSION.partition("/")[0],
                "kind": runtime_kind,
                "name": settings.runtime,
            },
            "activeDeadlineSeconds": math.ceil(settings.max_hours * 3600),
            "trainer": {
                "image": image,
                "command": ["torchrun", "-m", *command],
                "numNodes": settings.nodes,
                "numProcPerNode": settings.processes_per_node,
                "resourcesPerNode": _resources(settings),
                "env": list(_environment()),
            },
            "runtimePatches": [{"manager": MANAGER, "trainingRuntimeSpec": _patch(settings)}],
        },
    }


def _resources(settings: TrainJobSettings) -> dict[str, dict[str, str]]:
    """A limit for processors only where there are no GPUs: the SDK wants to see one of the two limited."""
    cpu, memory = {"cpu": settings.cpu_per_node}, {"memory": settings.memory_per_node}
    if not settings.gpus_per_node:
        return {"requests": cpu | memory, "limits": cpu | memory}
    gpus = {cluster.GPU: str(settings.gpus_per_node)}
    return {"requests": cpu | memory | gpus, "limits": memory | gpus}


def _environment() -> Iterator[dict[str, Any]]:
    """MLflow, its login, S3: by the names of secrets, so that no value of one stands in the TrainJob."""
    for secret in (cluster.TRACKING, cluster.TRACKING_LOGIN, cluster.STORAGE):
        optional = {"optional": True} if secret.optional else {}
        for key, variable in secret.variables.items():
            yield {"name": variable, "valueFrom": {"secretKeyRef": {"name": secret.name, "key": key, **optional}}}


def _patch(settings: TrainJobSettings) -> dict[str, Any]:
    """What the pods have beyond the runtime's: the shared volume, shared memory, no root, nodes kept for GPUs."""
    mounts = [
        {"name": "state", "mountPath": cluster.STATE_FOLDER},
        {"name": "shared-memory", "mountPath": cluster.SHARED_MEMORY},
    ]
    volumes = [
        {"name": "state", "persistentVolumeClaim": {"claimName": cluster.STATE_CLAIM}},
        {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": cluster.SHARED_MEMORY_SIZE}},
    ]
    pod: dict[str, Any] = {
        "securityContext": {"runAsNonRoot": True},
        "volumes": volumes,
        "containers": [{"name": NODE, "volumeMounts": mounts}],
    }
    if settings.gpus_per_node:
        pod["tolerations"] = [{"key": cluster.GPU, "operator": "Exists", "effect": "NoSchedule"}]
    template = {"metadata": {"labels": NO_SIDECAR}, "spec": pod}
    job = {"name": NODE, "template": {"spec": {"template": template}}}
    return {"template": {"spec": {"replicatedJobs": [job]}}}
