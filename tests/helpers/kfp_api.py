"""A fake Kubeflow Pipelines API (v2beta1) on loopback that checks requests and answers against the API's definition."""

import json
import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import yaml
from google.protobuf.json_format import ParseDict
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec

from helpers.kfp_definition import ApiDefinition

NOW = "2026-01-01T00:00:00Z"
LATER = "2026-01-01T00:02:10Z"
CODES = {400: 3, 401: 16, 403: 7, 404: 5, 409: 6, 500: 13}  # of gRPC
JSON = "application/json"
NAMED = ("namespace", "display_name")
OUT_OF_ORDER = "it is out of order"
Answer = tuple[int, Any]


@dataclass
class Fault:
    """What the next matching requests are answered with. A body that is no mapping is sent as it is."""

    operation: str
    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    times: int = 1


def task(name: str, state: str, **fields: Any) -> dict[str, Any]:
    """Return a node of a run, as the API lists the nodes of the workflow behind it."""
    end = LATER if state in ("SUCCEEDED", "FAILED") else "1970-01-01T00:00:00Z"
    node = {"run_id": "r", "task_id": f"task-{name}", "display_name": name, "state": state}
    return {**node, "create_time": NOW, "start_time": NOW, "end_time": end, **fields}


def tasks(**states: str) -> list[dict[str, Any]]:
    """Return the nodes of some steps, and those that Kubeflow adds. `_` in a name stands for `-`."""
    nodes = [task("training-x7k2p", "RUNNING"), task("root", "RUNNING"), task("root-driver", "SUCCEEDED")]
    for name, state in states.items():
        nodes += [task(name.replace("_", "-"), state), task("executor", state)]
        nodes.append(task(f"{name.replace('_', '-')}-driver", "SUCCEEDED"))
    return nodes


@dataclass
class KubeflowApi:
    """The state of the server.

    Attributes:
        token: if set, requests need it.
        namespace: if set, the server has several users, and this is the only namespace that the user may use.
        page_size: most objects in one page.
        progress: what the next requests for a run find: its state and nodes. The last one stays.
        faults: answers in place of the right ones.
        requests: operation, query and body of all requests so far.
        violations: of the API's definition, by requests and answers; none is allowed.
    """

    definition: ApiDefinition
    url: str = ""
    token: str = ""
    namespace: str = ""
    page_size: int = 100
    progress: list[tuple[str, list[dict[str, Any]]]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    requests: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    pipelines: list[dict[str, Any]] = field(default_factory=list)
    versions: list[dict[str, Any]] = field(default_factory=list)
    experiments: list[dict[str, Any]] = field(default_factory=list)
    runs: list[dict[str, Any]] = field(default_factory=list)
    recurring_runs: list[dict[str, Any]] = field(default_factory=list)

    def bodies(self, operation: str) -> list[Any]:
        """Return the bodies of all requests for an operation."""
        return [body for name, _, body in self.requests if name == operation]

    def answer(self, verb: str, path: str, query: dict[str, str], body: Any, token: str) -> tuple[Answer, Fault | None]:
        """Return status and body of the answer, and the fault that replaces it, if any."""
        operation = self.definition.find(verb, path)
        if operation is None:
            return (404, {"message": "Not Found"}), None
        self.requests.append((operation.name, query, body))
        self.violations += [
            f"{operation.name}: {text}" for text in self.definition.check_request(operation, query, body)
        ]
        fault = next((fault for fault in self.faults if re.fullmatch(fault.operation, operation.name)), None)
        if fault is not None:
            fault.times -= 1
            if not fault.times:
                self.faults.remove(fault)
        if fault is not None and (fault.status != 200 or fault.body is not None):
            answer = fault.status, error(fault.status, OUT_OF_ORDER) if fault.body is None else fault.body
        elif self.token and token != f"Bearer {self.token}":
            answer = 401, error(401, "Request header error: there is no user identity header")
        else:
            answer = getattr(self, operation.name)(query, body, **operation.values)
        status, content = answer
        if isinstance(content, dict):
            found = self.definition.check_answer(operation, status, content)
            self.violations += [f"the answer of {operation.name}: {text}" for text in found]
        return answer, fault

    def list_pipelines(self, query: dict[str, str], _: None) -> Answer:
        return self._list("pipelines", self.pipelines, query)

    def create_pipeline(self, _: dict[str, str], body: dict[str, Any]) -> Answer:
        return self._create(self.pipelines, {"pipeline_id": f"p{len(self.pipelines) + 1}", **body}, NAMED)

    def list_pipeline_versions(self, query: dict[str, str], _: None, pipeline_id: str) -> Answer:
        versions = [version for version in self.versions if version["pipeline_id"] == pipeline_id]
        return self._list("pipeline_versions", versions, query)

    def upload_pipeline_version(self, query: dict[str, str], form: dict[str, bytes]) -> Answer:
        spec, platforms = yaml.load_all(form["uploadfile"], Loader=yaml.CSafeLoader)
        ParseDict(spec, PipelineSpec())
        version = {
            "pipeline_id": query["pipelineid"],
            "pipeline_version_id": f"v{len(self.versions) + 1}",
            "display_name": query["name"],
            "pipeline_spec": {"pipeline_spec": spec, "platform_spec": platforms},
        }
        return self._create(self.versions, version, ("pipeline_id", "display_name"))

    def get_pipeline_version(self, _: dict[str, str], __: None, pipeline_id: str, pipeline_version_id: str) -> Answer:
        return self._get(self.versions, "pipeline_version_id", pipeline_version_id)

    def list_experiments(self, query: dict[str, str], _: None) -> Answer:
        return self._list("experiments", self.experiments, query)

    def create_experiment(self, _: dict[str, str], body: dict[str, Any]) -> Answer:
        return self._create(self.experiments, {"experiment_id": f"e{len(self.experiments) + 1}", **body}, NAMED)

    def create_run(self, _: dict[str, str], body: dict[str, Any]) -> Answer:
        run = {"run_id": f"r{len(self.runs) + 1}", "state": "PENDING", **body}
        return self._check_arguments(body) or self._create(self.runs, run)

    def list_runs(self, query: dict[str, str], _: None) -> Answer:
        runs = [run for run in self.runs if run["experiment_id"] == query.get("experiment_id", run["experiment_id"])]
        newest_first = query.get("sort_by") == "created_at desc"
        return self._list("runs", runs[::-1] if newest_first else runs, query)

    def get_run(self, _: dict[str, str], __: None, run_id: str) -> Answer:
        status, run = self._get(self.runs, "run_id", run_id)
        if status == 200 and self.progress:
            run["state"], nodes = self.progress[0]
            run["run_details"] = {"task_details": nodes}
            if run["state"] in ("SUCCEEDED", "FAILED", "CANCELED"):
                run["finished_at"] = LATER
            del self.progress[: len(self.progress) > 1]
        return status, run

    def terminate_run(self, _: dict[str, str], __: None, run_id: str) -> Answer:
        return self._change_run(run_id, "CANCELING")

    def retry_run(self, _: dict[str, str], __: None, run_id: str) -> Answer:
        return self._change_run(run_id, "RUNNING")

    def list_recurring_runs(self, query: dict[str, str], _: None) -> Answer:
        return self._list("recurringRuns", self.recurring_runs, query)

    def create_recurring_run(self, _: dict[str, str], body: dict[str, Any]) -> Answer:
        run = {"recurring_run_id": f"s{len(self.requests)}", "status": "ENABLED", **body}
        return self._check_arguments(body) or self._create(self.recurring_runs, run)

    def delete_recurring_run(self, _: dict[str, str], __: None, recurring_run_id: str) -> Answer:
        self.recurring_runs = [run for run in self.recurring_runs if run["recurring_run_id"] != recurring_run_id]
        return 200, {}

    def _list(self, name: str, objects: list[dict[str, Any]], query: dict[str, str]) -> Answer:
        if self.namespace and name != "pipeline_versions" and "experiment_id" not in query:
            if "namespace" not in query:
                return 400, error(400, "Invalid input error: a namespace cannot be empty in multi-user mode")
            if query["namespace"] != self.namespace:
                return 403, error(403, f"User 'me' is not authorized to list {name} in {query['namespace']}")
        for predicate in json.loads(query.get("filter", "{}")).get("predicates", []):
            assert predicate["operation"] == "EQUALS"
            objects = [entry for entry in objects if entry[predicate["key"]] == predicate["string_value"]]
        start, size = int(query.get("page_token") or 0), min(int(query["page_size"]), self.page_size)
        page: dict[str, Any] = {name: objects[start : start + size], "total_size": len(objects)}
        if start + size < len(objects):
            page["next_page_token"] = str(start + size)
        return 200, page if objects else {}

    def _create(self, objects: list[dict[str, Any]], entry: dict[str, Any], unique: Sequence[str] = ()) -> Answer:
        """Add an object. `unique` are keys of which the values must not all be those of another one."""
        if unique and any(all(other.get(key) == entry.get(key) for key in unique) for other in objects):
            return 409, error(409, f"Already exist error: {entry['display_name']}")
        entry["created_at"] = NOW
        objects.append(entry)
        return 200, entry

    def _get(self, objects: list[dict[str, Any]], key: str, value: str) -> Answer:
        found = next((entry for entry in objects if entry[key] == value), None)
        return (404, error(404, f"ResourceNotFoundError: {key} {value} not found")) if found is None else (200, found)

    def _change_run(self, run_id: str, state: str) -> Answer:
        status, run = self._get(self.runs, "run_id", run_id)
        if status != 200:
            return status, run
        run["state"] = state
        return 200, {}

    def _check_arguments(self, body: dict[str, Any]) -> Answer | None:
        """Refuse a run with a parameter that its pipeline does not have, as the server does."""
        reference = body["pipeline_version_reference"]["pipeline_version_id"]
        (version,) = (entry for entry in self.versions if entry["pipeline_version_id"] == reference)
        known = version["pipeline_spec"]["pipeline_spec"]["root"]["inputDefinitions"]["parameters"]
        unknown = sorted(set(body["runtime_config"]["parameters"]) - set(known))
        return (
            (400, error(400, f"Invalid input error: Unrecognized input parameter: {unknown[0]}")) if unknown else None
        )


def error(status: int, message: str) -> dict[str, Any]:
    """Return a googleRpcStatus."""
    return {"code": CODES.get(status, 13), "message": message, "details": []}


class _Handler(BaseHTTPRequestHandler):
    api: KubeflowApi
    lock = threading.Lock()

    def _serve(self) -> None:
        address = urlsplit(self.path)
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with self.lock:
            query = dict(parse_qsl(address.query))
            token = self.headers.get("Authorization", "")
            (status, body), fault = self.api.answer(self.command, address.path, query, self._parse(content), token)
        if fault is not None and fault.delay:
            time.sleep(fault.delay)
        sent = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": JSON, **(fault.headers if fault else {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(sent)))
        self.end_headers()
        self.wfile.write(sent)

    do_GET = do_POST = do_DELETE = _serve  # noqa: N815  http.server's names

    def _parse(self, content: bytes) -> Any:
        """Return JSON, or the fields of a form."""
        kind = self.headers.get("Content-Type", "")
        if kind.startswith("multipart/"):
            message = BytesParser().parsebytes(f"Content-Type: {kind}\r\n\r\n".encode() + content)
            parts = message.get_payload()
            return {
                part.get_param("name", header="content-disposition"): part.get_payload(decode=True) for part in parts
            }
        return json.loads(content) if content else None

    def log_message(self, *_: object) -> None:
        """Log nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Ignore clients that disconnect; some tests let them time out."""


@contextmanager
def serve(definition: ApiDefinition) -> Iterator[KubeflowApi]:
    """Serve the API while the block runs. The block fails if a request or an answer violates the definition."""
    api = KubeflowApi(definition)
    with _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"api": api})) as server:
        api.url = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield api
        finally:
            server.shutdown()
    assert api.violations == []
