"""The container image, really built, and steps that run in it. `make test-images`; no part of `make test`."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.project import ROOT, read_json
from kfp import dsl
from kfp.compiler import Compiler
from rich.console import Console

from components.ingest.component import ingest
from components.ingest.sources.pinned import resolve
from components.spectrograms.component import spectrograms
from mlops.image import IMAGE
from pipeline import run
from pipeline.settings import PipelineSettings
from pipeline.training import arguments

pytestmark = [pytest.mark.images, pytest.mark.timeout(1800), pytest.mark.xdist_group("images")]
# Makes podman serve Docker's API where there is no Docker engine, and prints the variables to set.
PODMAN_UP = Path(os.environ.get("AUDIOCNN_PODMAN_UP", ROOT.parent / "shared" / "containers" / "podman-up"))
CERTIFICATES = Path(os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt"))
IMAGE_USER = 10001


def has_docker() -> bool:
    return (
        shutil.which("docker") is not None and subprocess.run(["docker", "info"], capture_output=True).returncode == 0
    )


@pytest.fixture(scope="module")
def image(request: pytest.FixtureRequest, revision: str) -> str:
    """The image's name, once it is built and an engine stands behind DOCKER_HOST."""
    if "images" not in request.config.getoption("markexpr"):
        pytest.skip("building the image takes minutes: make test-images")
    if has_docker():
        command, more = ["docker/build"], {}
    elif PODMAN_UP.is_file():
        lines = subprocess.run([PODMAN_UP], check=True, stdout=subprocess.PIPE, text=True).stdout
        os.environ.update(re.findall(r"(\w+)=(\S+)", lines))
        # The build sees this machine's network and certificates; an unshared mount table keeps cgroups out of its way.
        inside = "umount /sys/fs/cgroup/unified 2>/dev/null; exec docker/build"
        command = ["unshare", "--mount", "sh", "-c", inside]
        arguments = f"--isolation chroot --network host --volume {CERTIFICATES}:{CERTIFICATES}:ro"
        arguments += f" --build-arg PIP_CERT={CERTIFICATES} --build-arg SSL_CERT_FILE={CERTIFICATES}"
        more = {"BUILDER": "podman", "BUILD_ARGS": arguments}
    else:
        pytest.skip(f"no Docker engine answers, and there is no {PODMAN_UP} to start podman (AUDIOCNN_PODMAN_UP)")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    subprocess.run(command, cwd=ROOT, env={**os.environ, **more, "PATH": path}, check=True)
    return IMAGE


@pytest.fixture(scope="module")
def revision() -> str:
    """The commit that the image is built from."""
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def in_container(image: str, *command: str) -> str:
    done = subprocess.run(["docker", "run", "--rm", image, *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def test_it_runs_as_nobody_special_and_cannot_change_the_code(image: str) -> None:
    assert in_container(image, "id", "-u") == str(IMAGE_USER)
    assert in_container(image, "sh", "-c", "touch var/x && ! touch audiocnn/x 2>/dev/null && echo kept") == "kept"


def test_it_knows_the_revision_that_it_was_built_from(image: str, revision: str) -> None:
    said = in_container(image, "python", "-c", "from components.revision import git_revision; print(git_revision())")
    assert said.removesuffix("-dirty") == revision


def test_it_holds_the_versions_of_the_lock_and_no_tool_of_developers(image: str) -> None:
    listed = in_container(image, "uv", "pip", "list", "--python", "/opt/venv/bin/python", "--format", "freeze")
    installed = dict(line.split("==") for line in listed.splitlines() if "==" in line)
    lock = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    assert {name: version for name, version in installed.items() if lock.get(name) != version.partition("+")[0]} == {
        "pip": installed["pip"]
    }
    assert {"torch", "mlflow", "kfp"} <= set(installed) and not {"pytest", "mypy", "moto"} & set(installed)


def test_it_carries_the_pin_of_the_data(image: str) -> None:
    code = "from components.ingest.sources.pinned import resolve; print(resolve('dvc'))"
    assert in_container(image, "python", "-c", code) == resolve("dvc")


@dsl.pipeline(name="computing")
def computing(source: str, ingest_settings: dict, spectrogram_settings: dict, cache: str):
    clips = ingest(source=source, settings=ingest_settings)
    spectrograms(dataset=clips.outputs["dataset"], settings=spectrogram_settings, cache=cache, shards=[])


def test_steps_run_in_it_through_kfp(
    image: str, tiny: PipelineSettings, demo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Compiler().compile(computing, "computing.yaml")
    for folder in ("var", "var/runs"):
        Path(folder).mkdir()
        Path(folder).chmod(0o777)
    # Containers write as the user who calls; here as one who is not root, whoever runs the tests.
    monkeypatch.setattr(os, "getuid", lambda: IMAGE_USER)
    monkeypatch.setattr(os, "getgid", lambda: IMAGE_USER)
    blocks = arguments(tiny)
    given = {
        "source": str(demo_folder),
        "ingest_settings": blocks["ingest"],
        "spectrogram_settings": blocks["spectrograms"],
        "cache": "var/cache/spectrograms",
    }
    done = run.run_docker(given, Path("computing.yaml"), Console())
    assert done.ran == ("ingest", "spectrograms")
    assert read_json(done.output("ingest", "dataset") / "dataset.json")["clips"] == 50
    spec = done.output("spectrograms", "spectrograms") / "spectrograms.npy"
    assert spec.stat().st_uid == IMAGE_USER
    cached = [path for path in Path("var/cache/spectrograms").glob("*/*/*") if path.is_file()]
    assert len(cached) == 50, "the cache outlives the containers"


def test_a_step_that_fails_in_a_container_is_told_like_any_other(
    image: str, tiny: PipelineSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Compiler().compile(computing, "computing.yaml")
    blocks = arguments(tiny)
    Path("cut.zip").write_bytes(b"PK")
    given = {
        "source": "cut.zip",
        "ingest_settings": blocks["ingest"],
        "spectrogram_settings": blocks["spectrograms"],
        "cache": "var/cache",
    }
    with pytest.raises(run.RunError, match="no sound zip archive") as raised:
        run.run_docker(given, Path("computing.yaml"), Console())
    assert raised.value.status == 2
