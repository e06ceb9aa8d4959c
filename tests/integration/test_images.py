"""The container image is built, and steps run in it. `make test-images`; not part of `make test`."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.project import ROOT

from components.ingest.sources import parse_source
from mlops.artifacts import DatasetFolder, DecisionFolder
from mlops.image import IMAGE
from pipeline.local import run_training
from pipeline.run_folders import RunError
from pipeline.settings import PipelineSettings
from pipeline.steps import TRAINING_STEPS

pytestmark = [pytest.mark.images, pytest.mark.timeout(1800), pytest.mark.xdist_group("images")]
# Starts podman with Docker's API if there is no Docker engine, and prints the variables to set.
PODMAN_UP = Path(os.environ.get("AUDIOCNN_PODMAN_UP", ROOT.parent / "shared" / "containers" / "podman-up"))
CERTIFICATES = Path(os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt"))
IMAGE_USER = 10001


def has_docker() -> bool:
    return (
        shutil.which("docker") is not None and subprocess.run(["docker", "info"], capture_output=True).returncode == 0
    )


@pytest.fixture(scope="module")
def image(request: pytest.FixtureRequest, revision: str) -> str:
    """Build the image, and return its name; DOCKER_HOST then leads to an engine."""
    if "images" not in request.config.getoption("markexpr"):
        pytest.skip("building the image takes minutes: make test-images")
    if has_docker():
        command, more = ["docker/build"], {}
    elif PODMAN_UP.is_file():
        lines = subprocess.run([PODMAN_UP], check=True, stdout=subprocess.PIPE, text=True).stdout
        os.environ.update(re.findall(r"(\w+)=(\S+)", lines))
        # The build uses this machine's network and certificates; without an unshared mount table it fails at cgroups.
        inside = "umount /sys/fs/cgroup/unified 2>/dev/null; exec docker/build"
        command = ["unshare", "--mount", "sh", "-c", inside]
        arguments = f"--isolation chroot --network host --volume {CERTIFICATES}:{CERTIFICATES}:ro"
        arguments += f" --build-arg PIP_CERT={CERTIFICATES} --build-arg SSL_CERT_FILE={CERTIFICATES}"
        more = {"BUILDER": "podman", "BUILD_ARGS": arguments}
    else:
        pytest.skip(f"no Docker engine, and no {PODMAN_UP} that starts podman (set AUDIOCNN_PODMAN_UP)")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    subprocess.run(command, cwd=ROOT, env={**os.environ, **more, "PATH": path}, check=True)
    return IMAGE


@pytest.fixture(scope="module")
def revision() -> str:
    """Return the commit that the image is built from."""
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def in_container(image: str, *command: str) -> str:
    done = subprocess.run(["docker", "run", "--rm", image, *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def test_the_user_is_not_root_and_cannot_change_the_code(image: str) -> None:
    assert in_container(image, "id", "-u") == str(IMAGE_USER)
    assert in_container(image, "sh", "-c", "touch var/x && ! touch audiocnn/x 2>/dev/null && echo kept") == "kept"


def test_the_image_contains_its_git_revision(image: str, revision: str) -> None:
    code = "from mlops.provenance import git_revision; print(git_revision())"
    assert in_container(image, "python", "-c", code).removesuffix("-dirty") == revision


def test_packages_are_those_of_the_lock_without_development_tools(image: str) -> None:
    listed = in_container(image, "uv", "pip", "list", "--python", "/opt/venv/bin/python", "--format", "freeze")
    installed = dict(line.split("==") for line in listed.splitlines() if "==" in line)
    lock = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    assert {name: version for name, version in installed.items() if lock.get(name) != version.partition("+")[0]} == {
        "pip": installed["pip"]
    }
    assert {"torch", "mlflow", "kfp"} <= set(installed) and not {"pytest", "mypy", "moto"} & set(installed)


def test_the_image_contains_the_pin_of_the_data(image: str) -> None:
    code = "from components.ingest.sources import parse_source; print(parse_source('dvc').pinned())"
    assert in_container(image, "python", "-c", code) == parse_source("dvc").pinned()


def test_the_training_pipeline_runs_in_containers(
    image: str, tiny: PipelineSettings, demo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")  # var/mlflow.db, which the containers see
    # Containers write as the calling user; here as one who is not root, whoever runs the tests.
    monkeypatch.setattr(os, "getuid", lambda: IMAGE_USER)
    monkeypatch.setattr(os, "getgid", lambda: IMAGE_USER)
    umask = os.umask(0)  # the folders that this process creates are writable for that user
    try:
        settings = tiny.replace(promote=tiny.promote.replace(min_accuracy=1.0))
        run = run_training(settings, str(demo_folder), containers=True)
    finally:
        os.umask(umask)
    assert tuple(run.executed) == TRAINING_STEPS[:-1]
    assert DatasetFolder(run.output("ingest")).record().clips == 50
    assert (run.output("spectrograms") / "spectrograms.npy").stat().st_uid == IMAGE_USER
    assert DecisionFolder(run.output("promote")).record().outcome == "refuse"
    cached = [path for path in Path("var/cache/spectrograms").glob("*/*/*") if path.is_file()]
    assert len(cached) == 50, "the cache outlives the containers"


def test_the_error_of_a_step_in_a_container_is_reported(
    image: str, tiny: PipelineSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("cut.zip").write_bytes(b"PK")
    with pytest.raises(RunError, match=r"Ingest clips: .*cut\.zip") as raised:
        run_training(tiny, "cut.zip", containers=True)
    assert raised.value.status == 2
