"""A fake Kubernetes API with Kubeflow Trainer on loopback. It runs the pods of TrainJobs as local processes."""

import json
import os
import re
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
from kubernetes.client import Configuration

from helpers.project import ROOT
from helpers.torchserve import free_ports
from helpers.trainjobs import NOW, Job, pods_of, round_trip, runtime

NAMESPACE = "team"
ROUTE = re.compile(
    r"/(?:api|apis/(?P<group>[^/]+))/v1(?:alpha1)?"
    r"(?:/namespaces/(?P<namespace>[^/]+))?/(?P<kind>[a-z]+)(?:/(?P<name>[^/]+))?(?:/(?P<part>[a-z]+))?"
)


@dataclass
class Cluster:
    """State of the cluster.

    Attributes:
        workdir: working directory of the pods.
        secrets: values by name and key.
        runtimes: training runtimes by name.
        replace_command: maps a TrainJob's command to the command that is run.
        failures: HTTP statuses of the next responses by (verb, resource).
        unknown_fields: fields of a TrainJob's spec that the API drops.
        url: address of the API.
        jobs: existing TrainJobs by name.
        created: all TrainJobs that were created.
        deleted: names of all TrainJobs that were deleted.
        requests: (verb, API group, resource) of all requests.
    """

    workdir: Path
    secrets: dict[str, dict[str, str]] = field(default_factory=dict)
    runtimes: dict[str, dict[str, Any]] = field(default_factory=lambda: {"torch-distributed": runtime()})
    replace_command: Callable[[list[str]], list[str]] | None = None
    failures: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    unknown_fields: tuple[str, ...] = ()
    url: str = ""
    jobs: dict[str, Job] = field(default_factory=dict)
    created: list[dict[str, Any]] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    requests: set[tuple[str, str, str]] = field(default_factory=set)

    @property
    def config(self) -> KubernetesBackendConfig:
        return KubernetesBackendConfig(namespace=NAMESPACE, client_configuration=Configuration(host=self.url))

    def kubeconfig(self, file: Path) -> Path:
        """Write a kubeconfig with which a process outside the cluster connects."""
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
        """Return the HTTP status and the body of the response."""
        found = ROUTE.fullmatch(path)
        if found is None:
            return 404, {"message": f"no route {path}"}
        resource = "/".join(filter(None, (found["kind"], found["part"])))
        verb = "list" if verb == "get" and found["name"] is None else verb
        self.requests.add((verb, found["group"] or "", resource))
        if statuses := self.failures.get((verb, resource)):
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
        if round_trip(body) != body:
            return 422, {"message": f'trainjobs "{name}" has unknown fields'}
        body["metadata"] |= {"namespace": NAMESPACE, "creationTimestamp": NOW}
        for dropped in self.unknown_fields:
            body["spec"].pop(dropped)
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
        return 200, {"items": [pod for name, job in self.jobs.items() for pod in pods_of(name, job)]}

    def get_pods_log(self, pod: str) -> tuple[int, Any]:
        job, _, number = pod.partition("-node-0-")
        return 200, self.jobs[job].logs[int(number)].read_text()

    def _run(self, name: str, trainer: Mapping[str, Any], manifest: dict[str, Any]) -> Job:
        """Start one pod per node, configured in PET_* like those of Trainer's torch runtime."""
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
                        self.replace_command(trainer["command"]) if self.replace_command else trainer["command"],
                        cwd=self.workdir,
                        env=environment,
                        stdout=out,
                        stderr=subprocess.STDOUT,
                        start_new_session=True,
                    )
                )
        return Job(manifest, pods, logs)

    def _environment(self, variables: list[dict[str, Any]]) -> dict[str, str]:
        """Return the variables' values. A pod cannot start without a secret, unless it is optional."""
        found = {}
        for variable in variables:
            if "value" in variable:
                found[variable["name"]] = variable["value"]
                continue
            reference = variable["valueFrom"]["secretKeyRef"]
            value = self.secrets.get(reference["name"], {}).get(reference["key"])
            if value is not None:
                found[variable["name"]] = value
            elif not reference.get("optional"):
                raise KeyError(f"secret {reference['name']}, key {reference['key']}")
        return found


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
        """Log nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *arguments: Any) -> None:
        """Ignore clients that disconnect; some tests kill them."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(*arguments)


@contextmanager
def serve(workdir: Path) -> Iterator[Cluster]:
    """Serve a cluster while the block runs, then end its pods."""
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
