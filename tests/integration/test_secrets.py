"""No credential in compiled YAML, logs or artifacts: planted ones are searched for, in images by test_images.py."""

import base64
from pathlib import Path

import pytest
from helpers.manifests import GENERATED, OVERLAYS, SECRETS, checkout, render

from mlops.image import IMAGE
from pipeline.compile import compile_all
from pipeline.local import run_training
from pipeline.settings import PipelineSettings
from serving.torchserve import variables

PLANTED = "planted-credential-5d1c"
CREDENTIALS = {name for secret in SECRETS for name in secret.variables.values()} | {variables.INFERENCE_KEYS}
NOT_SECRET = {"MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "AWS_ENDPOINT_URL"}  # MLflow shows users


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in CREDENTIALS - NOT_SECRET:
        monkeypatch.setenv(name, PLANTED)


def files_with(text: str, *folders: Path) -> list[Path]:
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert files
    return sorted(path for path in files if text.encode() in path.read_bytes())


@pytest.mark.usefixtures("planted")
def test_compiled_pipelines_contain_no_credential(tmp_path: Path) -> None:
    written = compile_all(tmp_path)
    assert files_with(IMAGE, tmp_path) == sorted(written), "the search finds what is there"
    assert files_with(PLANTED, tmp_path) == []


def test_manifests_have_credentials_in_secrets_only(tmp_path: Path) -> None:
    overlays, encoded = checkout(tmp_path), base64.b64encode(GENERATED.encode()).decode()
    for overlay in OVERLAYS:
        having = [item["kind"] for item in render(overlays / overlay) if encoded in str(item) or GENERATED in str(item)]
        assert having and set(having) == {"Secret"}


@pytest.mark.xdist_group("mlflow")
@pytest.mark.usefixtures("planted")
def test_a_run_writes_no_credential(
    tiny: PipelineSettings,
    demo_folder: Path,
    mlflow_server: str,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    # With a password in the address too, as some people write it.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server.replace("://", f"://user:{PLANTED}@"))
    run_training(tiny.replace(promote=tiny.promote.replace(min_accuracy=1.0)), str(demo_folder))
    shown = "".join(capfd.readouterr())
    assert "[promote]" in shown and PLANTED not in shown
    server = tmp_path_factory.getbasetemp() / "server0"  # of the fixture mlflow_server
    assert files_with("[promote]", tmp_path) and files_with("refuse", server), "the search finds what is there"
    assert files_with(PLANTED, tmp_path, server) == []
