"""A training on several nodes as a Kubeflow TrainJob: the settings, and the object that the cluster is given."""

import math
from collections.abc import Iterator
from typing import Any

from components.train.settings import TrainJobSettings
from mlops import cluster

API_VERSION = "trainer.kubeflow.org/v1alpha1"
NODE = "node"  # what every training runtime calls the job and the container of its nodes
MANAGER = "audiocnn.io/train"  # who patches the runtime's pods; Trainer wants one name for each that does
NO_SIDECAR = {"sidecar.istio.io/inject": "false"}  # a mesh's proxy outlives the training, and the pod never ends


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
