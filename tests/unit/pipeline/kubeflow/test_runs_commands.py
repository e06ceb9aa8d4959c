"""`audiocnn runs`, `runs show`, `runs cancel` and `runs retry`."""

import json

import pytest
from click.testing import Result
from helpers.kfp_api import NOW, KubeflowApi, task, tasks
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.compile import TRAINING
from pipeline.kubeflow.client import KubeflowClient


@pytest.fixture
def served(api: KubeflowApi) -> KubeflowApi:
    """Return a server with two runs."""
    client = KubeflowClient(api.url)
    version = client.upload("audiocnn-training", "a1b2c3d", TRAINING.read_text(encoding="utf-8"))
    for name in ("demo seed fold 5 a1b2c3d", "demo strong fold 5 a1b2c3d"):
        client.start(name, version, client.experiment("audiocnn"), {})
    return api


def runs(api: KubeflowApi, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["runs", *arguments, "--url", api.url], catch_exceptions=False)


def test_runs_are_listed_the_newest_first(served: KubeflowApi) -> None:
    served.runs[0] |= {"state": "SUCCEEDED", "finished_at": "2026-01-01T00:00:30Z"}
    result = runs(served)
    assert result.exit_code == 0
    header, newest, oldest = (line.split("  ") for line in result.stdout.splitlines())
    assert header[0] == "id" and [newest[0], oldest[0]] == ["r2", "r1"]
    cells = [cell.strip() for cell in oldest if cell.strip()]
    assert cells == ["r1", "demo seed fold 5 a1b2c3d", "SUCCEEDED", "2026-01-01 00:00", "30.0 s"]
    assert runs(served, "--limit", "1").stdout.count("\n") == 2
    assert runs(served, "--experiment", "birds").stdout == "No runs in the experiment birds.\n"


def test_brackets_in_names_are_kept(served: KubeflowApi) -> None:
    served.runs[0]["display_name"] = name = "a [bold] b [/dim] c"
    tasks = served.versions[0]["pipeline_spec"]["pipeline_spec"]["root"]["dag"]["tasks"]
    tasks["notify"]["taskInfo"]["name"] = title = "Report [/failure]"
    assert name in runs(served).stdout and title in runs(served, "show", "r1").stdout


def test_a_failed_run_is_shown_with_step_reason_and_log(served: KubeflowApi) -> None:
    nodes = [*tasks(ingest="SUCCEEDED", train="FAILED"), task("spectrogram-shard", "SUCCEEDED")]
    served.progress = [("FAILED", [*nodes, task("spectrogram-shard", "SUCCEEDED")])]
    result = runs(served, "show", "r2")
    assert result.exit_code == 0
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert "Ingest clips done 2 m 10" in lines and "Compute spectrograms done 2 m 10 2 of 2 done" in lines
    assert "Train failed 2 m 10" in lines and "Deploy to TorchServe skipped" in lines
    assert lines[-5:] == [
        "demo strong fold 5 a1b2c3d: FAILED after 2 m 10",
        "Failed train (Train)",
        "Reason Kubeflow gives none; the log has it",
        "Log kubectl logs --namespace kubeflow --container main --selector pipeline/runid=r2 --prefix --tail 100",
        f"Page {served.url}/#/runs/details/r2",
    ]


def test_reason_and_pod_are_shown_if_the_api_has_them(served: KubeflowApi) -> None:
    failed = task("train", "FAILED", pod_name="training-x7k2p-4711", error={"code": 13, "message": "OOMKilled"})
    served.progress = [("FAILED", [failed])]
    text = runs(served, "show", "r1").stdout
    assert "Reason    OOMKilled\n" in text
    assert "Log       kubectl logs --namespace kubeflow --container main training-x7k2p-4711\n" in text


def test_a_run_that_fails_outside_of_its_steps_has_a_log_too(served: KubeflowApi) -> None:
    served.progress = [("FAILED", [task("root-driver", "FAILED")])]
    text = runs(served, "show", "r1").stdout
    assert "Reason    Kubeflow gives none" in text and "pipeline/runid=r1" in text


@pytest.mark.parametrize("spec", [{}, {"kind": "Workflow", "spec": {"entrypoint": "kfp-1"}}])
def test_a_run_of_a_deleted_version_or_of_kfp_1_has_no_steps(spec: object, served: KubeflowApi) -> None:
    served.versions[0]["pipeline_spec"] = spec
    served.progress = [("FAILED", [task("train", "FAILED")])]
    result = runs(served, "show", "r1")
    assert result.exit_code == 0 and "FAILED after" in result.stdout and "pipeline/runid=r1" in result.stdout


def test_the_log_is_in_the_namespace_of_the_run(served: KubeflowApi) -> None:
    served.progress = [("FAILED", [task("train", "FAILED")])]
    assert "kubectl logs --namespace team" in runs(served, "show", "r1", "--namespace", "team").stdout


def test_a_run_is_canceled_once(served: KubeflowApi) -> None:
    result = runs(served, "cancel", "r1")
    assert result.exit_code == 0 and result.stdout == "demo seed fold 5 a1b2c3d: is being canceled\n"
    assert served.runs[0]["state"] == "CANCELING"
    served.runs[0]["state"] = "CANCELED"
    result = runs(served, "cancel", "r1")
    assert result.exit_code == 2 and "has ended already: CANCELED" in result.stderr


def test_a_failed_run_is_retried(served: KubeflowApi) -> None:
    served.runs[1] |= {"state": "FAILED", "finished_at": NOW}
    result = runs(served, "retry", "r2")
    assert result.exit_code == 0 and "audiocnn runs show r2 --url" in result.stdout
    assert served.runs[1]["state"] == "RUNNING"
    result = runs(served, "retry", "r2")
    assert result.exit_code == 2 and "is RUNNING; only a failed or canceled run can be retried" in result.stderr


@pytest.mark.parametrize("command", ["show", "cancel", "retry"])
def test_an_unknown_run_is_one_sentence(command: str, served: KubeflowApi) -> None:
    result = runs(served, command, "r9")
    assert result.exit_code == 2 and result.stdout == "" and result.stderr.count("\n") == 1
    assert "404 Not Found" in result.stderr and "check the URL and the id" in result.stderr


def test_options_before_the_command_are_refused(api: KubeflowApi) -> None:
    arguments = ["runs", "--url", api.url, "show", "r1", "--url", api.url]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 2 and result.stderr == "error: --url: write it after `show`\n"


def test_a_missing_url_is_named(api: KubeflowApi) -> None:
    result = CliRunner().invoke(app, ["runs"], catch_exceptions=False)
    assert result.exit_code == 2 and "KF_PIPELINES_ENDPOINT" in result.stderr


def test_the_commands_take_the_url_of_the_environment(served: KubeflowApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", served.url)
    for arguments in (["runs"], ["runs", "show", "r1"]):
        assert CliRunner().invoke(app, arguments, catch_exceptions=False).exit_code == 0


def test_runs_are_printed_as_json(served: KubeflowApi) -> None:
    served.progress = [("FAILED", [*tasks(ingest="SUCCEEDED", train="FAILED")])]
    newest, oldest = json.loads(runs(served, "--json").stdout)
    assert [newest["id"], oldest["id"]] == ["r2", "r1"]
    assert (newest["name"], newest["created"]) == ("demo strong fold 5 a1b2c3d", "2026-01-01T00:00:00+00:00")
    shown = json.loads(runs(served, "show", "r2", "--json").stdout)
    assert shown["state"] == "FAILED" and shown["page"] == f"{served.url}/#/runs/details/r2"
    assert {step["name"]: step["state"] for step in shown["steps"]}["train"] == "failed"
    assert json.loads(runs(served, "--experiment", "birds", "--json").stdout) == []
