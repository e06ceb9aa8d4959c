"""A Kubernetes API on loopback with Kubeflow Trainer behind it: what it is asked to run, it runs on this machine."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from kubeflow.common.types import KubernetesBackendConfig
from kubeflow_trainer_api.models import TrainerV1alpha1TrainJob
from kubernetes.client import Configuration

from helpers.project import ROOT
from helpers.torchserve import free_ports

NAMESPACE = "team"
TRAINER = "trainer.kubeflow.org"
NOW = "2026-01-01T00:00:00Z"
ROUTE = re.compile(
    r"/(?:api|apis/(?P<group>[^/]+))/v1(?:alpha1)?"
    r"(?:/namespaces/(?P<namespace>[^/]+))?/(?P<kind>[a-z]+)(?:/(?P<name>[^/]+))?(?:/(?P<part>[a-z]+))?"
)


def runtime(framework: str = "torch") -> dict[str, Any]:
    """A ClusterTrainingRuntime as Kubeflow Trainer installs it."""
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
    """A TrainJob and its pods, one process each."""

    manifest: dict[str, Any]
    pods: list[subprocess.Popen[bytes]]
    logs: list[Path]
    removed: set[int] = field(default_factory=set)

    @property
    def phases(self) -> dict[int, str]:
        """Of the pods that are there, by the node's number."""
        codes = {number: pod.poll() for number, pod in enumerate(self.pods) if number not in self.removed}
        named = {None: "Running", 0: "Succeeded"}
        return {number: named.get(code, "Failed") for number, code in codes.items()}

    @property
    def status(self) -> dict[str, Any]:
        """Failed with its first pod; then Kubernetes removes those that still run."""
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
    words = {"type": kind, "status": "True", "reason": reason, "message": message}
    return {"conditions": [{**words, "lastTransitionTime": NOW}]}


@dataclass
class Cluster:
    """What a test may set, and what it may look at.

    workdir: where the pods run.    secrets: name -> key -> value.    stand_in: makes what runs of a TrainJob's command.
    refuses: (verb, resource) -> statuses of the next answers.    unknown: fields of a TrainJob's spec that get lost.
    """

    workdir: Path
    secrets: dict[str, dict[str, str]] = field(default_factory=dict)
    runtimes: dict[str, dict[str, Any]] = field(default_factory=lambda: {"torch-distributed": runtime()})
    stand_in: Callable[[list[str]], list[str]] | None = None
    refuses: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()
    url: str = ""
    jobs: dict[str, Job] = field(default_factory=dict)
    created: list[dict[str, Any]] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    asked: set[tuple[str, str, str]] = field(default_factory=set)  # verb, API group, resource

    @property
    def config(self) -> KubernetesBackendConfig:
        return KubernetesBackendConfig(namespace=NAMESPACE, client_configuration=Configuration(host=self.url))

    def kubeconfig(self, file: Path) -> Path:
        """How a process outside the cluster finds it."""
        context = {"cluster": "here", "user": "me", "namespace": NAMESPACE}
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "here", "cluster": {"server": self.url}}],
            "users": [{"name": "me", "user": {"token": "open sesame"}}],
            "contexts": [{"name": "here", "context": context}],
            "current-context": "here",
        }
        file.write_text(json.dumps(content))
        return file

    def answer(self, verb: str, path: str, body: dict[str, Any] | None) -> tuple[int, Any]:
        """Status and content."""
        found = ROUTE.fullmatch(path)
        if found is None:
            return 404, {"message": f"no route {path}"}
        resource = "/".join(filter(None, (found["kind"], found["part"])))
        verb = "list" if verb == "get" and found["name"] is None else verb
        self.asked.add((verb, found["group"] or "", resource))
        if statuses := self.refuses.get((verb, resource)):
            return statuses.pop(0), {"message": f"{resource} is out of order"}
        if found["namespace"] not in (None, NAMESPACE, "kubeflow-system"):
            return 403, {"message": f"no access to namespace {found['namespace']}"}
        method = getattr(self, f"{verb}_{resource.replace('/', '_')}")
        result: tuple[int, Any] = method(found["name"]) if body is None else method(body)
        return result

    def get_configmaps(self, _: str) -> tuple[int, Any]:
        return 200, {"data": {"kubeflow_trainer_version": "v2.3.0"}}

    def get_trainingruntimes(self, name: str) -> tuple[int, Any]:
        return 404, {"message": f'trainingruntimes "{name}" not found'}

    def get_clustertrainingruntimes(self, name: str) -> tuple[int, Any]:
        if name in self.runtimes:
            return 200, self.runtimes[name]
        return 404, {"message": f'clustertrainingruntimes "{name}" not found'}

    def post_trainjobs(self, body: dict[str, Any]) -> tuple[int, Any]:
        name = body["metadata"]["name"]
        if name in self.jobs:
            return 409, {"message": f'trainjobs "{name}" already exists'}
        if accepted(body) != body:
            return 422, {"message": f'trainjobs "{name}" has unknown fields'}
        body["metadata"] |= {"namespace": NAMESPACE, "creationTimestamp": NOW}
        for lost in self.unknown:
            body["spec"].pop(lost)
        self.created.append(body)
        self.jobs[name] = self._run(name, body["spec"]["trainer"], body)
        return 201, body

    def get_trainjobs(self, name: str) -> tuple[int, Any]:
        if name not in self.jobs:
            return 404, {"message": f'trainjobs "{name}" not found'}
        return 200, {**self.jobs[name].manifest, "status": self.jobs[name].status}

    def delete_trainjobs(self, name: str) -> tuple[int, Any]:
        if name not in self.jobs:
            return 404, {"message": f'trainjobs "{name}" not found'}
        self.jobs.pop(name).stop()
        self.deleted.append(name)
        return 200, {"status": "Success"}

    def list_pods(self, _: None) -> tuple[int, Any]:
        return 200, {"items": [pod for name, job in self.jobs.items() for pod in _pods(name, job)]}

    def get_pods_log(self, pod: str) -> tuple[int, Any]:
        job, _, number = pod.partition("-node-0-")
        return 200, self.jobs[job].logs[int(number)].read_text()

    def _run(self, name: str, trainer: Mapping[str, Any], manifest: dict[str, Any]) -> Job:
        """What Trainer's torch runtime makes of a TrainJob: a pod a node, told of the others in PET_*."""
        port, nodes = free_ports(1)[0], trainer["numNodes"]
        logs = [self.workdir / f"{name}-{number}.log" for number in range(nodes)]
        shared = {
            "PET_NNODES": str(nodes),
            "PET_NPROC_PER_NODE": str(trainer["numProcPerNode"]),
            "PET_MASTER_ADDR": "127.0.0.1",
            "PET_MASTER_PORT": str(port),
        }
        machine = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "HOME": os.environ["HOME"],
            "OMP_NUM_THREADS": "1",
            "GLOO_SOCKET_IFNAME": "lo",
        }
        pods = []
        for number, log in enumerate(logs):
            with log.open("wb") as out:
                environment = {**machine, **self._environment(trainer["env"]), **shared, "PET_NODE_RANK": str(number)}
                pods.append(
                    subprocess.Popen(
                        self.stand_in(trainer["command"]) if self.stand_in else trainer["command"],
                        cwd=self.workdir,
                        env=environment,
                        stdout=out,
                        stderr=subprocess.STDOUT,
                        start_new_session=True,
                    )
                )
        return Job(manifest, pods, logs)

    def _environment(self, variables: list[dict[str, Any]]) -> dict[str, str]:
        """From secrets; one that is missing keeps a pod from starting, unless it is optional."""
        found = {}
        for variable in variables:
            reference = variable["valueFrom"]["secretKeyRef"]
            value = self.secrets.get(reference["name"], {}).get(reference["key"])
            if value is not None:
                found[variable["name"]] = value
            elif not reference.get("optional"):
                raise KeyError(f"secret {reference['name']}, key {reference['key']}")
        return found


def _pods(name: str, job: Job) -> Iterator[dict[str, Any]]:
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


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    cluster: Cluster
    lock = threading.Lock()

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length and self.command == "POST" else None
        with self.lock:
            status, content = self.cluster.answer(self.command.lower(), urlsplit(self.path).path, body)
        sent = content.encode() if isinstance(content, str) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain" if isinstance(content, str) else "application/json")
        self.send_header("Content-Length", str(len(sent)))
        self.end_headers()
        self.wfile.write(sent)

    do_GET = do_POST = do_DELETE = _serve  # noqa: N815  http.server's names

    def log_message(self, *_: object) -> None:
        """Quiet."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *arguments: Any) -> None:
        """A client that goes away is what some tests are about."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(*arguments)


@contextmanager
def serve(workdir: Path) -> Iterator[Cluster]:
    """A cluster until the block ends; its pods end with it."""
    cluster = Cluster(workdir)
    with _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"cluster": cluster})) as server:
        cluster.url = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield cluster
        finally:
            server.shutdown()
            for job in cluster.jobs.values():
                job.stop()


def accepted(manifest: dict[str, Any]) -> dict[str, Any]:
    """What is left of a TrainJob after Kubeflow Trainer's own API models have read it."""
    job = TrainerV1alpha1TrainJob.from_dict(manifest)
    assert job is not None
    return job.to_dict()
