"""The files around the code: licenses, packaging, CI, pre-commit."""

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from helpers.project import ROOT

PACKAGES = ("audiocnn", "mlops", "components", "pipeline", "serving")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
WORKFLOW = ROOT / ".github/workflows/ci.yml"
NOT_PERMISSIVE = re.compile(r"\b(A|L)?GPL|General Public License|\bMPL|Mozilla|\bEPL|Proprietary", re.IGNORECASE)


def schema_findings(workflow: Path) -> str:
    """Return what `make lint` finds in a workflow; empty if nothing."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", str(workflow)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stderr
    return done.stdout if done.returncode else ""


def test_the_wheel_has_all_files_of_the_packages(tmp_path: Path) -> None:
    source, files = tmp_path / "source", set()
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
        files |= {path.relative_to(source).as_posix() for path in (source / package).rglob("*") if path.is_file()}
    manifests = {name for name in files if name.startswith("serving/kubernetes/")}
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, source)
    build = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path), str(source)]
    subprocess.run([sys.executable, "-m", "pip", *build], check=True)

    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert manifests and files - set(names) == manifests
    assert {"audiocnn/py.typed", "mlops/py.typed"} <= files
    assert {name.rpartition("/")[2] for name in names if "/licenses/" in name} == {"LICENSE", "NOTICE"}


def test_notice_names_dependencies_that_are_not_permissive() -> None:
    notice = (ROOT / "NOTICE").read_text(encoding="utf-8")
    requirements = sum(PROJECT["optional-dependencies"].values(), PROJECT["dependencies"])
    unnamed = set()
    for name in {re.split(r"[\[=<>~; ]", line)[0] for line in requirements}:
        package = metadata.metadata(name)
        fields = [package.get("License-Expression", ""), *package.get_all("Classifier", [])]
        if NOT_PERMISSIVE.search(" ".join(fields)) and f"\n{name}: " not in notice:
            unnamed.add(name)
    assert unnamed == set()


def test_the_workflow_runs_the_same_checks_as_people_do() -> None:
    assert schema_findings(WORKFLOW) == ""
    workflow = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    assert [step["run"] for step in steps if "run" in step] == [".ci/run"]
    assert all(re.search(r"@[0-9a-f]{40}$", step["uses"]) for step in steps if "uses" in step)


@pytest.mark.parametrize(("old", "new"), [("runs-on:", "run-on:"), ("timeout-minutes: 60", "timeout-minutes: [60]")])
def test_a_workflow_that_github_would_refuse_is_refused(old: str, new: str, tmp_path: Path) -> None:
    text = WORKFLOW.read_text(encoding="utf-8")
    assert old in text
    broken = tmp_path / "ci.yml"
    broken.write_text(text.replace(old, new), encoding="utf-8")
    assert "ci.yml" in schema_findings(broken)


def test_pre_commit_hooks_need_no_network() -> None:
    configuration = ROOT / ".pre-commit-config.yaml"
    subprocess.run([sys.executable, "-m", "pre_commit", "validate-config", str(configuration)], check=True)
    repositories = yaml.safe_load(configuration.read_text(encoding="utf-8"))["repos"]
    assert [repository["repo"] for repository in repositories] == ["local"]
    assert {hook["language"] for hook in repositories[0]["hooks"]} == {"unsupported"}
