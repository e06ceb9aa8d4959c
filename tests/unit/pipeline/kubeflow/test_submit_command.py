"""`audiocnn submit`: what it prints, and its exit status."""

import re
from pathlib import Path

import pytest
from click.testing import Result
from helpers.kfp_api import Fault, KubeflowApi, tasks
from typer.testing import CliRunner

from mlops.image import REPOSITORY
from pipeline.cli import app
from pipeline.kubeflow import image as image_module
from pipeline.kubeflow import wait

pytestmark = pytest.mark.usefixtures("committed")


def submit(api: KubeflowApi, *options: str) -> Result:
    return CliRunner().invoke(app, ["submit", api.url, *options], catch_exceptions=False)


def assert_refused(result: Result, words: str) -> None:
    assert result.exit_code == 2 and result.stdout == ""
    assert result.stderr.startswith("error: ") and words in result.stderr and result.stderr.count("\n") == 1


def test_a_training_is_started(api: KubeflowApi) -> None:
    result = submit(api, "--source", "esc50", "--set", "recipe=strong", "--set", "train.epochs=3", "--shards", "8")
    assert result.exit_code == 0 and result.stderr == ""
    follow_up = result.stdout.splitlines().pop()
    assert result.stdout.splitlines()[:-1] == [
        f"Image     {REPOSITORY}:a1b2c3d",
        "Pipeline  audiocnn-training, version a1b2c3d",
        "Run       esc50 strong fold 5 a1b2c3d",
        f"Page      {api.url}/#/runs/details/r1",
    ]
    assert re.fullmatch(rf"State     \S*audiocnn runs show r1 --url {api.url}", follow_up)
    (run,) = api.bodies("create_run")
    sent = run["runtime_config"]["parameters"]
    assert (sent["source"], sent["recipe"], sent["shards"]) == ("esc50", "strong", 8)
    assert sent["overrides"] == {"train": {"epochs": 3}} and run["display_name"] == "esc50 strong fold 5 a1b2c3d"
    assert api.experiments[0]["display_name"] == "audiocnn"


def test_options_reach_the_server(api: KubeflowApi) -> None:
    api.namespace, api.token = "team", "open-sesame"
    options = ["--image", "registry.example.org/audiocnn", "--name", "mine", "--experiment", "birds", "--nodes", "3"]
    options += ["--gpus-per-node", "4", "--namespace", "team", "--token", "open-sesame"]
    result = submit(api, *options)
    assert result.exit_code == 0 and "open-sesame" not in result.output
    assert "Image     registry.example.org/audiocnn:a1b2c3d\n" in result.stdout and "--namespace team" in result.stdout
    (run,) = api.runs
    sent = run["runtime_config"]["parameters"]
    assert (run["display_name"], sent["nodes"], sent["gpus_per_node"]) == ("mine", 3, 4)
    assert sent["overrides"] == {} and api.experiments[0]["display_name"] == "birds"
    executors = api.versions[0]["pipeline_spec"]["pipeline_spec"]["deploymentSpec"]["executors"]
    images = {executor["container"]["image"] for executor in executors.values()}
    assert images == {"registry.example.org/audiocnn:a1b2c3d"}


def test_address_and_login_come_from_the_environment(api: KubeflowApi, monkeypatch: pytest.MonkeyPatch) -> None:
    api.namespace, api.token = "team", "open-sesame"
    for name, value in (("ENDPOINT", api.url), ("NAMESPACE", "team"), ("TOKEN", "open-sesame")):
        monkeypatch.setenv(f"KF_PIPELINES_{name}", value)
    result = CliRunner().invoke(app, ["submit"], catch_exceptions=False)
    assert result.exit_code == 0 and len(api.runs) == 1


def test_a_sweep_is_submitted_with_its_trials(api: KubeflowApi) -> None:
    result = submit(api, "--grid", "train.augment.mix=mixup,power", "--folds", "1,2", "--seeds", "2")
    assert result.exit_code == 0 and "Run       demo seed sweep of 2 a1b2c3d\n" in result.stdout
    sent = api.runs[0]["runtime_config"]["parameters"]
    assert sent["trials"] == {"augment.mix=mixup": {}, "augment.mix=power": {"augment": {"mix": "power"}}}
    assert (sent["folds"], sent["seeds"]) == ([1, 2], [0, 1])
    assert sent["overrides"] == {"train": {"hold_out": [5]}}
    assert api.pipelines[0]["name"] == "audiocnn-crossval"


def test_uncommitted_changes_are_told(api: KubeflowApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_module, "git_revision", lambda: "a1b2c3d4e5-dirty")
    result = submit(api)
    assert f"Image     {REPOSITORY}:a1b2c3d\n          (without the uncommitted changes" in result.stdout
    assert re.search(r"version a1b2c3d-dirty-[0-9a-f]{8}\n", result.stdout)
    assert "Run       demo seed fold 5 a1b2c3d-dirty\n" in result.stdout


def test_waiting_shows_the_steps_and_ends_with_success(api: KubeflowApi) -> None:
    done = {"ingest": "SUCCEEDED", "spectrogram_shard": "SUCCEEDED"}
    api.progress = [
        ("PENDING", []),
        ("RUNNING", tasks(ingest="RUNNING")),
        ("RUNNING", tasks(**done)),
        ("SUCCEEDED", tasks(**done, train="SUCCEEDED", deploy="SKIPPED")),
    ]
    result = submit(api, "--wait")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()[4:]
    assert lines == [
        "ingest: Ingest clips",
        "ingest: done after 2 m 10",
        "spectrogram-shard: Compute spectrograms",
        "spectrogram-shard: done after 2 m 10",
        "train: Train",
        "train: done after 2 m 10",
        "demo seed fold 5 a1b2c3d: SUCCEEDED after 2 m 10",
        f"Page      {api.url}/#/runs/details/r1",
    ]


def test_waiting_for_a_run_that_fails_ends_with_1(api: KubeflowApi) -> None:
    api.progress = [("RUNNING", tasks(ingest="RUNNING")), ("FAILED", tasks(ingest="SUCCEEDED", train="FAILED"))]
    result = submit(api, "--wait")
    assert result.exit_code == 1 and "Failed    train (Train)\n" in result.stdout and "kubectl logs" in result.stdout


def test_waiting_for_a_run_that_is_canceled_ends_with_1(api: KubeflowApi) -> None:
    api.progress = [("CANCELING", tasks(train="RUNNING")), ("CANCELED", tasks(train="FAILED"))]
    result = submit(api, "--wait")
    assert result.exit_code == 1 and ": CANCELED after" in result.stdout and "Failed" not in result.stdout


def test_waiting_survives_an_outage(api: KubeflowApi) -> None:
    api.progress = [("RUNNING", tasks(ingest="RUNNING")), ("SUCCEEDED", tasks(ingest="SUCCEEDED"))]
    api.faults = [Fault("get_run", 503, times=3)]
    assert submit(api, "--wait").exit_code == 0


def test_waiting_ends_if_the_api_stays_away(api: KubeflowApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wait, "OUTAGE", 0.2)
    for status, words in ((500, "try again"), (401, "KF_PIPELINES_TOKEN")):
        api.faults = [Fault("get_run", status, times=1000)]
        result = submit(api, "--wait")
        assert result.exit_code == 2 and words in result.stderr and result.stderr.count("\n") == 1
        assert "the run goes on: `" in result.stderr and "audiocnn runs cancel r" in result.stderr


def test_ctrl_c_leaves_the_run_alone(api: KubeflowApi, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(wait.time, "sleep", interrupt)
    api.progress = [("RUNNING", tasks(ingest="RUNNING"))]
    result = submit(api, "--wait")
    assert result.exit_code == 130 and "interrupted; the run goes on: `" in result.stderr
    assert "terminate_run" not in [operation for operation, _, _ in api.requests]


def test_a_recurring_run_is_made_once(api: KubeflowApi) -> None:
    first, second = submit(api, "--cron", "0 3 * * 1"), submit(api, "--cron", "0 3 * * 1")
    assert first.exit_code == second.exit_code == 0
    assert "Schedule  demo seed fold 5: 0 3 * * 1 (created)\n" in first.stdout
    assert "Schedule  demo seed fold 5: 0 3 * * 1 (exists already)\n" in second.stdout
    (made,) = api.recurring_runs
    assert made["trigger"]["cron_schedule"]["cron"] == "0 0 3 * * 1" and not api.runs
    assert submit(api, "--cron", "0 3 * * 1", "--name", "nightly").exit_code == 0
    assert [run["display_name"] for run in api.recurring_runs] == ["demo seed fold 5", "nightly"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--source", "."], "the pods of a cluster do not see the files of this machine"),
        (["--image", "audiocnn:1"], "no cluster can pull an image without a registry in its name"),
        (["--cron", "tomorrow"], "--cron 'tomorrow': expected minute, hour"),
        (["--cron", "0 3 * * 1", "--wait"], "--wait is for one run"),
        (["--folds", "x"], "--folds x"),
        (["--set", "train.fold=9"], "train.fold: demo has no fold 9"),
        (["--grid", "train.fold=1,2"], "sets train.fold"),
        (["--folds", "all", "--nodes", "2"], "--nodes is for one training"),
        (["--folds", "all", "--gpus-per-node", "1"], "--gpus-per-node is for one training"),
        (["--seeds", "3"], "--seeds is for a cross-validation or a sweep"),
        (["--set", "train.epoch=3"], "train.epoch: unknown key"),
    ],
)
def test_impossible_requests_are_refused_before_anything_is_sent(
    options: list[str], words: str, api: KubeflowApi
) -> None:
    assert_refused(submit(api, *options), words)
    assert api.requests == []


def test_an_image_on_the_nodes_needs_no_registry(api: KubeflowApi, committed: Path) -> None:
    assert submit(api, "--image", "audiocnn:1", "--image-on-nodes").exit_code == 0


def test_an_error_of_the_api_is_one_sentence(api: KubeflowApi) -> None:
    api.faults = [Fault("create_run", 403)]
    result = submit(api)
    assert result.exit_code == 2 and result.stderr.count("\n") == 1 and "403 Forbidden" in result.stderr
