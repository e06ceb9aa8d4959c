"""The client of the Kubeflow Pipelines API: requests, tokens, several users, and every error in one sentence."""

from pathlib import Path
from typing import Any

import pytest
from helpers.kfp_api import Fault, KubeflowApi
from helpers.torchserve import free_ports
from kfp_server_api import V2beta1PipelineVersionReference

from pipeline.compile import TRAINING
from pipeline.kubeflow import client as client_module
from pipeline.kubeflow.client import KubeflowClient
from pipeline.kubeflow.errors import KubeflowError

COMPILED = TRAINING.read_text(encoding="utf-8")
PAGE = b"<html><title>Log in</title></html>"


def upload(client: KubeflowClient, version: str = "a1b2c3d") -> Any:
    return client.upload("audiocnn-training", version, COMPILED)


def reference(version: str) -> Any:
    return V2beta1PipelineVersionReference(pipeline_id="p1", pipeline_version_id=version)


def start(client: KubeflowClient, name: str = "first", **arguments: Any) -> str:
    experiment = client.experiment("audiocnn")
    return client.start(name, upload(client), experiment, arguments)


def test_a_pipeline_and_a_version_are_created_once(api: KubeflowApi) -> None:
    client = KubeflowClient(api.url)
    assert upload(client) == upload(client) == reference("v1")
    assert upload(client, "0000000") == reference("v2")
    assert len(api.bodies("create_pipeline")) == 1 and len(api.bodies("upload_pipeline_version")) == 2
    assert api.bodies("upload_pipeline_version")[0]["uploadfile"].decode() == COMPILED


def test_a_version_that_somebody_else_uploads_meanwhile_is_used(api: KubeflowApi) -> None:
    upload(KubeflowClient(api.url))
    api.faults = [Fault("list_pipelines", 200, {}), Fault("list_pipeline_versions", 200, {})]
    assert upload(KubeflowClient(api.url)) == reference("v1")
    assert (len(api.pipelines), len(api.versions)) == (1, 1)


def test_a_run_refers_to_the_version(api: KubeflowApi) -> None:
    client = KubeflowClient(api.url)
    assert start(client, source="demo", fold=5) == "r1"
    (run,) = api.bodies("create_run")
    assert run["pipeline_version_reference"] == {"pipeline_id": "p1", "pipeline_version_id": "v1"}
    assert run["runtime_config"] == {"parameters": {"source": "demo", "fold": 5}}
    assert client.run("r1").display_name == "first"
    assert client.pipeline_spec(client.run("r1"))["pipelineInfo"]["name"] == "training"
    assert client.run_url("r1") == f"{api.url}/#/runs/details/r1"


def test_all_pages_are_read(api: KubeflowApi) -> None:
    api.page_size = 2
    client = KubeflowClient(api.url)
    ids = [start(client, name) for name in ("first", "second", "third", "fourth", "fifth")]
    assert [run.run_id for run in client.runs("audiocnn")] == ids[::-1]
    assert len([name for name, _, _ in api.requests if name == "list_runs"]) == 3
    assert [*client.runs("another")] == []


def test_the_token_is_sent_and_not_shown(api: KubeflowApi) -> None:
    api.token = "open-sesame"
    assert upload(KubeflowClient(api.url, token="open-sesame")) == reference("v1")
    with pytest.raises(KubeflowError, match=r"401 Unauthorized.*set KF_PIPELINES_TOKEN") as raised:
        upload(KubeflowClient(api.url, token="wrong-token"))
    assert "wrong-token" not in str(raised.value)
    with pytest.raises(KubeflowError, match="the token has characters that no HTTP header can contain") as raised:
        KubeflowClient(api.url, token="two\nlines")
    assert "lines" not in str(raised.value)


def test_the_token_of_a_service_account_is_read_for_each_request(
    api: KubeflowApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "token"
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(file))
    file.write_text("zeroth")
    client = KubeflowClient(api.url)
    for token in ("first", "second"):  # Kubernetes renews it
        file.write_text(f"{token}\n")
        api.token = token
        upload(client)
    api.token = "third"
    upload(KubeflowClient(api.url, token="third"))  # one that was given comes first


def test_everything_is_in_the_namespace(api: KubeflowApi) -> None:
    api.namespace = "team"
    start(KubeflowClient(api.url, "team"))
    assert api.pipelines[0]["namespace"] == api.experiments[0]["namespace"] == "team"
    with pytest.raises(KubeflowError, match=r"400 Bad Request.*multi-user mode; .*--namespace"):
        start(KubeflowClient(api.url))
    with pytest.raises(KubeflowError, match=r"403 Forbidden.*not authorized to list [a-z]+ in others; .*--namespace"):
        start(KubeflowClient(api.url, "others"))


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault("create_run", 400), "refuses the request (400 Bad Request): it is out of order; correct the request"),
        (Fault("create_run", 401), "401 Unauthorized): it is out of order; set KF_PIPELINES_TOKEN"),
        (Fault("create_run", 403), "403 Forbidden): it is out of order; ask for the permission"),
        (Fault("create_run", 404), "404 Not Found): it is out of order; check the URL"),
        (Fault("create_run", 404, b"404 page not found"), "(404 Not Found): check the URL"),
        (Fault("create_run", 409), "409 Conflict): it is out of order; something of this name exists already"),
        (Fault("create_run", 500), "500 Internal Server Error): it is out of order; try again"),
        (Fault("create_run", 502, b"\xff\xfe"), "this is not the API of Kubeflow Pipelines"),
        (Fault("upload_pipeline_version", 400, b'{"error_message": "bad\\n file"}', times=1), "): bad file; correct"),
        (Fault("create_run", 200, PAGE, {"Content-Type": "text/html"}), "a login page needs a token"),
        (Fault("create_run", 200, {}), "this is not the API of Kubeflow Pipelines"),
        (Fault("create_pipeline", 200, {}), "this is not the API of Kubeflow Pipelines"),
        (Fault("list_pipelines", 302, PAGE, {"Location": "https://login.example.org/"}), "redirects to https://login"),
        (Fault("list_experiments", delay=1.0), "does not answer: the connection timed out; correct the URL"),
    ],
)
def test_every_error_is_one_sentence(
    fault: Fault, words: str, api: KubeflowApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fault.delay:  # other answers may take longer on a busy machine
        monkeypatch.setattr(client_module, "TIMEOUT", (0.5, 0.5))
    api.faults = [fault]
    with pytest.raises(KubeflowError) as raised:
        start(KubeflowClient(api.url))
    message = str(raised.value)
    assert message.startswith(f"{api.url}: ") and words in message
    assert "\n" not in message and "html" not in message and "Pool" not in message
    assert raised.value.temporary == (fault.status == 500 or fault.delay > 0)
    assert not api.runs


def test_https_at_a_server_without_it_is_named(api: KubeflowApi) -> None:
    with pytest.raises(KubeflowError, match=r"its certificate is not trusted .*SSL_CERT_FILE.* only supports http://"):
        upload(KubeflowClient(api.url.replace("http:", "https:")))


def test_a_long_message_of_the_server_is_cut(api: KubeflowApi) -> None:
    api.faults = [Fault("create_run", 500, {"message": "goroutine 1 " * 1000})]
    with pytest.raises(KubeflowError) as raised:
        start(KubeflowClient(api.url))
    assert len(str(raised.value)) < 700


def test_an_unreachable_api_is_named_with_the_reason() -> None:
    host = f"http://127.0.0.1:{free_ports(1)[0]}"
    with pytest.raises(KubeflowError, match=f"{host}: .*the connection was refused.*kubectl port-forward") as raised:
        upload(KubeflowClient(host))
    assert raised.value.temporary
    with pytest.raises(KubeflowError, match="the host name is unknown"):
        upload(KubeflowClient("http://no.such.host.invalid"))


@pytest.mark.parametrize("host", ["127.0.0.1:5999", "nonsense", "ftp://127.0.0.1", "", "http://"])
def test_an_invalid_url_is_refused(host: str) -> None:
    with pytest.raises(KubeflowError, match=r"expected the URL of the Kubeflow Pipelines API, .*kubectl port-forward"):
        KubeflowClient(host)


def test_a_url_with_a_login_is_refused() -> None:
    with pytest.raises(KubeflowError, match="contains a login") as raised:
        KubeflowClient("https://me:secret@kubeflow.example.org")
    assert "secret" not in str(raised.value)


def test_the_address_of_a_page_is_accepted() -> None:
    for end in ("/", "/#/runs", "/?ns=team#/runs"):
        client = KubeflowClient(f"https://kubeflow.example.org/pipeline{end}")
        assert client.run_url("r1") == "https://kubeflow.example.org/pipeline/#/runs/details/r1"


def test_a_recurring_run_is_made_once_and_replaced_if_it_changes(api: KubeflowApi) -> None:
    client = KubeflowClient(api.url)
    experiment = client.experiment("audiocnn")

    def schedule(version: str = "a1b2c3d", cron: str = "0 0 3 * * 1", fold: int = 5) -> bool:
        run_id, new = client.schedule("nightly", upload(client, version), experiment, {"fold": fold}, cron)
        assert [run["recurring_run_id"] for run in api.recurring_runs] == [run_id]
        return new

    assert [schedule(), schedule()] == [True, False]
    (made,) = api.bodies("create_recurring_run")
    assert made["trigger"] == {"cron_schedule": {"cron": "0 0 3 * * 1"}} and made["mode"] == "ENABLE"
    assert (made["no_catchup"], made["max_concurrency"]) == (True, "1")
    assert [schedule(fold=4), schedule(fold=4)] == [True, False]
    assert schedule(fold=4, cron="0 0 4 * * 1") and schedule(version="0000000", fold=4)
    api.recurring_runs[0]["mode"] = "DISABLE"
    assert schedule(version="0000000", fold=4, cron="0 0 3 * * 1")


def test_a_recurring_run_stays_if_its_replacement_is_refused(api: KubeflowApi) -> None:
    client = KubeflowClient(api.url)
    experiment = client.experiment("audiocnn")
    first, _ = client.schedule("nightly", upload(client), experiment, {}, "0 0 3 * * 1")
    api.faults = [Fault("create_recurring_run", 400)]
    with pytest.raises(KubeflowError):
        client.schedule("nightly", upload(client), experiment, {}, "0 0 99 * * 1")
    assert [run["recurring_run_id"] for run in api.recurring_runs] == [first]
