"""The settings of the step train beyond the block `train`, which is audiocnn.config.TrainSettings."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from audiocnn.config import NonNegativeInt, PositiveInt
from audiocnn.strict_model import StrictModel
from mlops import cluster

# Quantities that Kubernetes and Kubeflow Pipelines accept.
CPU = re.compile(r"([0-9]+\.)?[0-9]+m?")
MEMORY = re.compile(r"[1-9][0-9]*[MGT]i?")


def _check_cpu(value: str) -> str:
    if not CPU.fullmatch(value):
        raise ValueError("should be a number of CPUs such as 4 or 500m")
    return value


def _check_memory(value: str) -> str:
    if not MEMORY.fullmatch(value):
        raise ValueError("should be an amount of memory such as 32Gi")
    return value


class Toleration(StrictModel):
    """A Kubernetes toleration: pods with it may run on nodes with a matching taint."""

    key: str = ""
    operator: Literal["Exists", "Equal"] = "Exists"
    value: str = ""
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = ""

    def manifest(self) -> dict[str, str]:
        """Return the fields that are set, as Kubernetes names them."""
        return {name: value for name, value in self.to_dict().items() if value}


class ResourceSettings(StrictModel):
    """Block `resources`: what the training requests from a Kubernetes cluster.

    Attributes:
        nodes: nodes that train together.
        gpus_per_node: one process is started for each GPU; with 0, one process trains on the node's CPUs.
        gpu: the resource name of the GPUs.
        cpu_per_node: the request for CPUs, such as 4 or 500m.
        memory_per_node: the limit of the memory, such as 32Gi.
        node_selector: labels of the nodes to train on.
        tolerations: of the taints of nodes with GPUs.
        runtime: the TrainingRuntime or ClusterTrainingRuntime that a TrainJob starts from.
        max_hours: the cluster ends the training after this time.
        image_pull_secrets: names of secrets for the image's registry.
    """

    nodes: PositiveInt = 1
    gpus_per_node: NonNegativeInt = 1
    gpu: Annotated[str, Field(min_length=1)] = cluster.GPU
    cpu_per_node: Annotated[str, AfterValidator(_check_cpu)] = cluster.TRAINING.cpu
    memory_per_node: Annotated[str, AfterValidator(_check_memory)] = cluster.TRAINING.memory_limit
    node_selector: dict[str, str] = Field(default_factory=dict)
    # Nodes with GPUs are commonly tainted with the resource's name, so that only pods that request one run there.
    tolerations: tuple[Toleration, ...] = (Toleration(key=cluster.GPU, effect="NoSchedule"),)
    runtime: Annotated[str, Field(min_length=1)] = "torch-distributed"
    max_hours: Annotated[float, Field(gt=0, lt=10_000)] = 24.0
    image_pull_secrets: tuple[str, ...] = ()

    @property
    def processes_per_node(self) -> int:
        return max(1, self.gpus_per_node)

    @property
    def needs_trainjob(self) -> bool:
        """Whether the training is a TrainJob; one process trains in the task's own pod."""
        return self.nodes > 1 or self.gpus_per_node > 1

    @property
    def gpus_of_task(self) -> int:
        """GPUs of the task's own pod, which only waits for a TrainJob."""
        return 0 if self.needs_trainjob else self.gpus_per_node
