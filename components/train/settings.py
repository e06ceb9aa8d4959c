"""The settings of the step train beyond the block `train`, which is audiocnn.config.TrainSettings."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from audiocnn.config import NonNegativeInt, PositiveInt
from audiocnn.strict_model import StrictModel
from mlops import cluster

QUANTITY = re.compile(r"[0-9]+(\.[0-9]+)?(m|[kMGT]i?)?")


def _check_quantity(value: str) -> str:
    if not QUANTITY.fullmatch(value):
        raise ValueError("should be a Kubernetes quantity such as 500m or 32Gi")
    return value


Quantity = Annotated[str, AfterValidator(_check_quantity)]


class TrainJobSettings(StrictModel):
    """Pipeline parameter `trainjob`: the nodes of the cluster that train together.

    Attributes:
        nodes: 1 trains in the task's own pod; more start a TrainJob with one pod on each node.
        gpus_per_node: one process is started for each GPU; with 0, one process trains on the node's CPUs.
        cpu_per_node: a Kubernetes quantity.
        memory_per_node: a Kubernetes quantity.
        runtime: the TrainingRuntime or ClusterTrainingRuntime that the TrainJob starts from.
        max_hours: the cluster ends the TrainJob after this time.
    """

    nodes: PositiveInt = 1
    gpus_per_node: NonNegativeInt = 1
    cpu_per_node: Quantity = cluster.TRAINING.cpu
    memory_per_node: Quantity = cluster.TRAINING.memory_limit
    runtime: Annotated[str, Field(min_length=1)] = "torch-distributed"
    max_hours: Annotated[float, Field(gt=0, lt=10_000)] = 24.0

    @property
    def processes_per_node(self) -> int:
        """Processes that train on one node."""
        return max(1, self.gpus_per_node)
