"""Compiled pipelines as Kubeflow reads them: parsed with its protos, which finds misspelt fields."""

from dataclasses import dataclass
from typing import Any

import yaml
from google.protobuf import json_format
from kfp.kubernetes.kubernetes_executor_config_pb2 import KubernetesExecutorConfig
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec, PipelineTaskSpec


@dataclass(frozen=True)
class Graph:
    """A compiled pipeline.

    Attributes:
        spec: the pipeline.
        containers: the container of each task, by the name of the task.
        pods: what the pod of each task has beyond that.
    """

    spec: PipelineSpec
    containers: dict[str, dict[str, Any]]
    pods: dict[str, KubernetesExecutorConfig]

    @property
    def groups(self) -> dict[str, dict[str, PipelineTaskSpec]]:
        """The tasks of each group, by the title of the group; those outside of groups are in ""."""
        groups = {"": dict(self.spec.root.dag.tasks)}
        for tasks in [self.spec.root.dag.tasks, *(part.dag.tasks for part in self.spec.components.values())]:
            for task in tasks.values():
                if inner := self.spec.components[task.component_ref.name].dag.tasks:
                    groups[task.task_info.name] = dict(inner)
        return groups

    @property
    def tasks(self) -> dict[str, PipelineTaskSpec]:
        """All tasks that run a container."""
        every = {name: task for group in self.groups.values() for name, task in group.items()}
        return {name: task for name, task in every.items() if name in self.containers}

    def environment(self, name: str) -> dict[str, tuple[str, bool]]:
        """Return for each environment variable of a pod its secret, and whether that is optional."""
        return {
            pair.env_var: (secret.secret_name, secret.optional)
            for secret in self.pods[name].secret_as_env
            for pair in secret.key_to_env
        }


def read_graph(text: str) -> Graph:
    """Parse a compiled pipeline."""
    document, platform = yaml.safe_load_all(text)
    spec = json_format.ParseDict(document, PipelineSpec())
    containers = json_format.MessageToDict(spec.deployment_spec)["executors"]
    pods = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    return Graph(
        spec,
        {name.removeprefix("exec-"): executor["container"] for name, executor in containers.items()},
        {
            name.removeprefix("exec-"): json_format.ParseDict(pod, KubernetesExecutorConfig())
            for name, pod in pods.items()
        },
    )
