"""A fake Kubeflow Pipelines API, and a project of which everything is committed."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from shutil import copy, copytree

import pytest
from helpers.kfp_api import KubeflowApi, serve
from helpers.kfp_definition import FILE, ApiDefinition
from helpers.project import ROOT

from pipeline.kubeflow import image, overrides, wait

REVISION = "a1b2c3d4e5f60718293a4b5c6d7e8f9012345678"


@pytest.fixture(scope="session")
def definition() -> ApiDefinition:
    if not FILE.is_file():
        pytest.skip(f"no definition of the API at {FILE}: set AUDIOCNN_SCHEMAS to the folder of {FILE.name}")
    return ApiDefinition()


@pytest.fixture
def api(definition: ApiDefinition) -> Iterator[KubeflowApi]:
    with serve(definition) as served:
        yield served


@pytest.fixture
def committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a repository of which the last commit has the params.yaml and the recipes of the working tree."""
    folder = tmp_path / "repository"
    folder.mkdir()
    copy(ROOT / "params.yaml", folder)
    copytree(ROOT / "recipes", folder / "recipes")
    author = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    for command in (["init", "--quiet"], ["add", "."], [*author, "commit", "--quiet", "--message", "Add settings"]):
        subprocess.run(["git", "-C", str(folder), *command], check=True)
    monkeypatch.setattr(overrides, "ROOT", folder)
    monkeypatch.setattr(image, "git_revision", lambda: REVISION)
    return folder


@pytest.fixture(autouse=True)
def _short_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wait, "INTERVAL", 0.02)


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ENDPOINT", "NAMESPACE", "TOKEN", "SA_TOKEN_PATH"):
        monkeypatch.delenv(f"KF_PIPELINES_{name}", raising=False)
    monkeypatch.delenv("AUDIOCNN_IMAGE", raising=False)
