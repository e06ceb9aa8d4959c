"""TrainJobs and training runtimes of the Kubernetes API in helpers.kubernetes."""

import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kubeflow_trainer_api.models import TrainerV1alpha1TrainJob

TRAINER = "trainer.kubeflow.org"
NOW = "2026-01-01T00:00:00Z"


def runtime(framework: str = "torch") -> dict[str, Any]:
    """Return a ClusterTrainingRuntime like those of Kubeflow Trainer."""
    container = {"name": "node", "image": "pytorch/pytorch"}
    job = {
        "metadata": {"labels": {f"{TRAINER}/trainjob-ancestor-step": "trainer"}},
        "spec": {"template": {"spec": {"containers": [container]}}},
    }
    return {
        "apiVersion": f"{TRAINER}/v1alpha1",
        "kind": "ClusterTrainingRuntime",
        "metadata": {"name": f"{framework}-distributed", "labels": {f"{TRAINER}/framework": framework}},
        "spec": {
            "mlPolicy": {"numNodes": 1, "torch": {}},
            "template": {"spec": {"replicatedJobs": [{"name": "node", "template": job}]}},
        },
    }


@dataclass
class Job:
    """A TrainJob with one process per pod."""

    manifest: dict[str, Any]
    pods: list[subprocess.Popen[bytes]]
    logs: list[Path]
    removed: set[int] = field(default_factory=set)

    @property
    def phases(self) -> dict[int, str]:
        """Phases of the existing pods by node number."""
        codes = {number: pod.poll() for number, pod in enumerate(self.pods) if number not in self.removed}
        named = {None: "Running", 0: "Succeeded"}
        return {number: named.get(code, "Failed") for number, code in codes.items()}

    @property
    def status(self) -> dict[str, Any]:
        """Status of the TrainJob. Like Kubernetes, remove the running pods when one has failed."""
        if "Failed" in self.phases.values():
            self.stop()
            return _condition("Failed", "JobsFailed", "jobset failed due to one or more job failures")
        if set(self.phases.values()) == {"Succeeded"}:
            return _condition("Complete", "JobsCompleted", "jobset completed successfully")
        return {}

    def stop(self) -> None:
        for number, pod in enumerate(self.pods):
            if pod.poll() is None:
                self.removed.add(number)
                os.killpg(pod.pid, signal.SIGKILL)
                pod.wait()


def _condition(kind: str, reason: str, message: str) -> dict[str, Any]:
    condition = {"type": kind, "status": "True", "reason": reason, "message": message}
    return {"conditions": [{**condition, "lastTransitionTime": NOW}]}


def pods_of(name: str, job: Job) -> Iterator[dict[str, Any]]:
    trainer = job.manifest["spec"]["trainer"]
    for number, phase in job.phases.items():
        labels = {
            "jobset.sigs.k8s.io/jobset-name": name,
            "jobset.sigs.k8s.io/replicatedjob-name": "node",
            "batch.kubernetes.io/job-completion-index": str(number),
        }
        container = {"name": "node", "image": trainer["image"], "resources": trainer["resourcesPerNode"]}
        yield {
            "metadata": {"name": f"{name}-node-0-{number}", "labels": labels, "creationTimestamp": NOW},
            "spec": {"containers": [container]},
            "status": {"phase": phase},
        }


def round_trip(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return a TrainJob after a round trip through Kubeflow Trainer's API models."""
    job = TrainerV1alpha1TrainJob.from_dict(manifest)
    assert job is not None
    return job.to_dict()
