"""The manifest of the TrainJob that trains on several nodes."""

import math
from collections.abc import Iterator
from typing import Any

from components.train.settings import ResourceSettings
from mlops import cluster
from mlops.image import IMAGE_VARIABLE
from mlops.kubeflow_run import inherited_variables

API_VERSION = "trainer.kubeflow.org/v1alpha1"
NODE = "node"  # the name of the nodes' job and container in every training runtime
MANAGER = "audiocnn.io/train"  # Trainer requires a name for whoever patches a runtime's pods
NO_SIDECAR = {"sidecar.istio.io/inject": "false"}  # a mesh's proxy keeps running, and the pod would never complete


def manifest(
    name: str, image: str, command: list[str], settings: ResourceSettings, runtime_kind: str
) -> dict[str, Any]:
    """Return the TrainJob that runs `command` under torchrun on every node, with the task's volume and secrets.

    Trainer's torch runtime configures torchrun through the environment variables PET_*.

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
                "env": [{"name": IMAGE_VARIABLE, "value": image}, *_environment()],
            },
            "runtimePatches": [{"manager": MANAGER, "trainingRuntimeSpec": _patch(settings)}],
        },
    }


def _resources(settings: ResourceSettings) -> dict[str, dict[str, str]]:
    """Return requests and limits. CPUs are limited only without GPUs: the SDK requires a limit on one of the two."""
    cpu, memory = {"cpu": settings.cpu_per_node}, {"memory": settings.memory_per_node}
    if not settings.gpus_per_node:
        return {"requests": cpu | memory, "limits": cpu | memory}
    gpus = {settings.gpu: str(settings.gpus_per_node)}
    return {"requests": cpu | memory | gpus, "limits": memory | gpus}


def _environment() -> Iterator[dict[str, Any]]:
    """Yield the variables for MLflow and S3. Those of secrets refer to them: their values are not in the TrainJob."""
    for name, value in inherited_variables().items():
        yield {"name": name, "value": value}
    for secret in (cluster.TRACKING, cluster.TRACKING_LOGIN, cluster.STORAGE):
        optional = {"optional": True} if secret.optional else {}
        for key, variable in secret.variables.items():
            yield {"name": variable, "valueFrom": {"secretKeyRef": {"name": secret.name, "key": key, **optional}}}


def _patch(settings: ResourceSettings) -> dict[str, Any]:
    """Return additions to the runtime's pods: the shared volume, shared memory, no root, nodes reserved for GPUs."""
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
    if settings.node_selector:
        pod["nodeSelector"] = dict(settings.node_selector)
    if settings.gpus_per_node:
        pod["tolerations"] = [each.manifest() for each in settings.tolerations]
    if settings.image_pull_secrets:
        pod["imagePullSecrets"] = [{"name": name} for name in settings.image_pull_secrets]
    template = {"metadata": {"labels": NO_SIDECAR}, "spec": pod}
    job = {"name": NODE, "template": {"spec": {"template": template}}}
    return {"template": {"spec": {"replicatedJobs": [job]}}}
