"""docker/compose.yaml: its schema, and what the schema cannot check. Its images are tested in test_images.py."""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.containers import image_of
from helpers.project import ROOT

from mlops.settings import parse_overrides
from pipeline.settings import load
from serving.torchserve import variables

FILE = ROOT / "docker" / "compose.yaml"
TEXT = FILE.read_text(encoding="utf-8")
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(TEXT)["services"]
OWN = {"mlflow": "mlflow", "torchserve": "serving", "gateway": "serving"}  # targets of docker/Dockerfile by service


def schema_findings(file: Path) -> str:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(file)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stderr
    return done.stdout if done.returncode else ""


def test_the_schema_accepts_the_file() -> None:
    assert schema_findings(FILE) == ""


@pytest.mark.parametrize(("old", "new"), [("cap_drop:", "drop_cap:"), ("read_only: true", "read_only: [1]")])
def test_a_wrong_file_is_refused(old: str, new: str, tmp_path: Path) -> None:
    wrong = tmp_path / "compose.yaml"
    wrong.write_text(TEXT.replace(old, new), encoding="utf-8")
    assert old in TEXT and schema_findings(wrong) != ""


def test_images_are_those_that_the_project_builds() -> None:
    for service, target in OWN.items():
        assert SERVICES[service]["image"] == image_of(target)
        assert SERVICES[service]["build"]["target"] == target
    assert not any(each["image"].endswith(":latest") for each in SERVICES.values())


def test_secrets_come_from_the_example_without_values() -> None:
    example = (ROOT / "docker" / ".env.example").read_text(encoding="utf-8")
    required = set(re.findall(r"\$\{(\w+):\?", TEXT))
    assert set(re.findall(r"^(\w+)=$", example, re.MULTILINE)) == required
    assert set(re.findall(r"^#(\w+)=", example, re.MULTILINE)) == set(re.findall(r"\$\{(\w+):-", TEXT))
    secret = re.compile(r"PASSWORD|SECRET|KEY")
    for service in SERVICES.values():
        values = {name: str(value) for name, value in service["environment"].items() if secret.search(name)}
        assert all(value.startswith("${") for value in values.values())
    assert subprocess.run(["git", "check-ignore", "--quiet", "docker/.env"], cwd=ROOT).returncode == 0


def test_ports_are_on_loopback() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports and all(port.startswith("127.0.0.1:") for port in ports)


def test_own_services_have_read_only_roots_and_no_privileges() -> None:
    for service in (*OWN, "postgres"):
        assert SERVICES[service]["read_only"] and SERVICES[service]["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in SERVICES[service]["security_opt"]


def test_torchserve_gets_the_variables_that_it_reads() -> None:
    assert {variables.MODEL_STORE, variables.INFERENCE_KEYS} <= set(SERVICES["torchserve"]["environment"])


def test_the_documented_settings_deploy_to_its_torchserve() -> None:
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    command = next(line for line in text.splitlines() if line.strip().startswith("audiocnn deploy --set"))
    settings = load(ROOT / "params.yaml", parse_overrides(shlex.split(command)[3::2])).deploy
    torchserve, s3 = SERVICES["torchserve"], SERVICES["s3"]
    assert settings.model_store == torchserve["environment"][variables.MODEL_STORE]
    published = {port.rpartition(":")[0] for port in torchserve["ports"]}
    addresses = (settings.inference, settings.management, settings.metrics)
    assert {address.removeprefix("http://") for address in addresses} == published
    endpoint = re.search(r"AWS_ENDPOINT_URL=http://(\S+)", text)
    assert endpoint and s3["ports"] == [f"{endpoint[1]}:8333"]
    assert not settings.start and settings.state != load(ROOT / "params.yaml").deploy.state
