"""Submitting to a cluster, tested against a local HTTP server with the API of Kubeflow Pipelines."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.project import ROOT
from helpers.torchserve import free_ports
from typer.testing import CliRunner

from components.ingest.sources import SourceError
from components.train.settings import TrainJobSettings
from mlops.image import IMAGE
from pipeline.cli import app
from pipeline.compile import TRAINING
from pipeline.settings import PipelineSettings
from pipeline.submit import KubeflowClient, SubmitError, set_image, training_arguments


class Api(BaseHTTPRequestHandler):
    """Records the requests; has one experiment."""

    def do_GET(self) -> None:
        found = {"experiments": [{"experiment_id": "e1", "display_name": "audiocnn"}]}
        if self.server.other:  # type: ignore[attr-defined]
            self.page()
        else:
            self.answer({} if "healthz" in self.path else found)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.posted.append((self.path, self.headers.get("authorization"), body))  # type: ignore[attr-defined]
        if self.server.other:  # type: ignore[attr-defined]
            self.page()
        elif self.server.refuses:  # type: ignore[attr-defined]
            self.answer({"error": "no such namespace"}, 400)
        else:
            self.answer({"run_id": "r1", "experiment_id": "e1"})

    def answer(self, content: dict[str, Any], status: int = 200) -> None:
        self.send(json.dumps(content).encode(), "application/json", status)

    def page(self) -> None:
        self.send(b"<html>Log in</html>", "text/html", 200)

    def send(self, body: bytes, kind: str, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def api() -> Iterator[Any]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    server.posted, server.refuses, server.other = [], False, False
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def url(api: Any) -> str:
    return f"http://127.0.0.1:{api.server_address[1]}"


def test_the_compiled_pipeline_is_sent_with_arguments_and_image(api: Any, tiny: PipelineSettings) -> None:
    client = KubeflowClient(url(api), image="registry.example.org/audiocnn:7", token="open sesame")
    assert client.submit_training(tiny, "demo") == "r1"
    ((path, authorization, body),) = api.posted
    assert path == "/apis/v2beta1/runs" and authorization == "Bearer open sesame"
    assert body["experiment_id"] == "e1"
    spec = body["pipeline_spec"]
    executors = spec["pipeline_spec"]["deploymentSpec"]["executors"]
    assert {item["container"]["image"] for item in executors.values()} == {"registry.example.org/audiocnn:7"}
    assert "kubernetes" in spec["platform_spec"]["platforms"]
    sent = body["runtime_config"]["parameters"]
    assert sent["train"]["epochs"] == tiny.train.epochs and len(sent["code_digest"]) == 64


def train_of(api: Any) -> dict[str, Any]:
    """Return the container of the task train in the submitted pipeline."""
    ((_, _, body),) = api.posted
    container: dict[str, Any] = body["pipeline_spec"]["pipeline_spec"]["deploymentSpec"]["executors"]["exec-train"]
    return container["container"]


def test_a_task_that_starts_a_trainjob_requests_no_gpu(api: Any, tiny: PipelineSettings) -> None:
    client = KubeflowClient(url(api), image="registry.example.org/audiocnn:7")
    client.submit_training(tiny, "demo", trainjob=TrainJobSettings(nodes=3, gpus_per_node=8))
    container = train_of(api)
    assert "accelerator" not in container["resources"] and container["resources"]["memoryRequest"]
    assert container["env"] == [{"name": "AUDIOCNN_IMAGE", "value": "registry.example.org/audiocnn:7"}]
    ((_, _, body),) = api.posted
    sent = body["runtime_config"]["parameters"]["trainjob"]
    assert (sent["nodes"], sent["gpus_per_node"], sent["runtime"]) == (3, 8, "torch-distributed")


def test_a_training_on_one_node_requests_a_gpu(api: Any, tiny: PipelineSettings) -> None:
    KubeflowClient(url(api)).submit_training(tiny, "demo")
    assert train_of(api)["resources"]["accelerator"]["resourceCount"] == "1"


def test_the_command_has_options_for_nodes(api: Any, workplace: Path) -> None:
    options = ["--nodes", "2", "--gpus-per-node", "4", "--params", str(ROOT / "params.yaml")]
    assert CliRunner().invoke(app, ["submit", url(api), *options]).exit_code == 0
    ((_, _, body),) = api.posted
    sent = body["runtime_config"]["parameters"]["trainjob"]
    assert (sent["nodes"], sent["gpus_per_node"]) == (2, 4)
    assert "accelerator" not in train_of(api)["resources"]


def test_a_sweep_is_submitted_with_its_trials(api: Any) -> None:
    grid = ["--grid", "train.augment.mix=mixup,power", "--folds", "1,2", "--seeds", "2"]
    options = ["--params", str(ROOT / "params.yaml"), "--image", "registry.example.org/audiocnn:7"]
    result = CliRunner().invoke(app, ["submit", url(api), *grid, *options], catch_exceptions=False)
    assert result.exit_code == 0 and "runs/details/r1" in result.stdout
    ((_, _, body),) = api.posted
    sent = body["runtime_config"]["parameters"]
    assert sent["trials"] == {"augment.mix=mixup": {}, "augment.mix=power": {"augment": {"mix": "power"}}}
    assert (sent["folds"], sent["seeds"], sent["train"]["hold_out"]) == ([1, 2], [0, 1], [5])
    assert body["pipeline_spec"]["pipeline_spec"]["pipelineInfo"]["name"] == "crossval"


def test_a_refusal_is_one_sentence(api: Any, tiny: PipelineSettings) -> None:
    api.refuses = True
    with pytest.raises(SubmitError, match=r"refuses the run: 400") as raised:
        KubeflowClient(url(api)).submit_training(tiny, "demo")
    assert "\n" not in str(raised.value)


def test_an_unreachable_api_is_named_with_the_reason(tiny: PipelineSettings) -> None:
    host = f"http://127.0.0.1:{free_ports(1)[0]}"
    with pytest.raises(SubmitError, match=host) as raised:
        KubeflowClient(host).submit_training(tiny, "demo")
    message = str(raised.value)
    assert "does not answer: the connection was refused" in message and "kubectl port-forward" in message
    assert "Pool" not in message and "\n" not in message
    with pytest.raises(SubmitError, match="the host name is unknown"):
        KubeflowClient("http://no.such.host.invalid").submit_training(tiny, "demo")


def test_a_login_page_is_not_accepted_as_the_api(api: Any, tiny: PipelineSettings) -> None:
    api.other = True
    with pytest.raises(SubmitError, match="is not the API of Kubeflow Pipelines"):
        KubeflowClient(url(api)).submit_training(tiny, "demo")


@pytest.mark.parametrize("host", ["127.0.0.1:5999", "nonsense", "ftp://127.0.0.1", "", "http://"])
def test_an_invalid_url_is_refused(host: str, recwarn: pytest.WarningsRecorder) -> None:
    result = CliRunner().invoke(app, ["submit", host, "--params", str(ROOT / "params.yaml")], catch_exceptions=False)
    assert result.exit_code == 2 and not result.stdout and not recwarn.list
    assert result.stderr.startswith("error: expected the URL of the Kubeflow Pipelines API")
    assert repr(host) in result.stderr and "kubectl port-forward" in result.stderr and result.stderr.count("\n") == 1


def test_set_image_changes_nothing_else() -> None:
    text = TRAINING.read_text(encoding="utf-8")
    assert list(yaml.safe_load_all(set_image(text, IMAGE))) == list(yaml.safe_load_all(text))


def test_the_settings_give_every_parameter_of_the_pipeline(tiny: PipelineSettings) -> None:
    arguments = training_arguments(tiny, "demo")
    parameters = next(yaml.safe_load_all(TRAINING.read_text(encoding="utf-8")))["root"]["inputDefinitions"][
        "parameters"
    ]
    assert set(parameters) - set(arguments) == {"cache", "checkpoints"} and set(arguments) <= set(parameters)
    assert set(tiny.to_dict()) < set(arguments) and len(arguments["code_digest"]) == 64


def test_an_unknown_source_is_refused(tiny: PipelineSettings) -> None:
    with pytest.raises(SourceError, match="is unknown"):
        training_arguments(tiny, "gs://bucket/clips")
