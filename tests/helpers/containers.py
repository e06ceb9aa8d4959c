"""Container images: building them, running containers of them, and searching their layers."""

import os
import re
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from helpers.project import ROOT
from mlops.image import IMAGE

# Starts podman with Docker's API if there is no Docker engine, and prints the variables to set.
PODMAN_UP = Path(os.environ.get("AUDIOCNN_PODMAN_UP", "not-set"))
CERTIFICATES = Path(os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt"))
# What the manifests and docker/compose.yaml declare for servers.
RESTRICTED = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")
START_SECONDS = 120.0
CHUNK = 1 << 20  # bytes


def image_of(target: str) -> str:
    """Return the name of the image of a target of docker/Dockerfile."""
    return IMAGE.replace("-pipeline:", f"-{target}:")


def start_engine() -> dict[str, str]:
    """Let DOCKER_HOST lead to an engine, and return the variables for `build`. Without one the test is skipped."""
    if _has_docker():
        return {}
    if not PODMAN_UP.is_file():
        pytest.skip("no Docker engine, and AUDIOCNN_PODMAN_UP names no program that starts podman")
    lines = subprocess.run([PODMAN_UP], check=True, stdout=subprocess.PIPE, text=True).stdout
    os.environ.update(re.findall(r"(\w+)=(.+?)(?=\s+\w+=|\s*$)", lines))
    # The build uses this machine's network and certificates.
    arguments = f"--isolation chroot --network host --volume {CERTIFICATES}:{CERTIFICATES}:ro"
    arguments += f" --build-arg PIP_CERT={CERTIFICATES} --build-arg SSL_CERT_FILE={CERTIFICATES}"
    return {"BUILDER": "podman", "BUILD_ARGS": arguments}


def build(*targets: str, **environment: str) -> None:
    """Build images."""
    command = ["docker/build", *targets]
    if environment.get("BUILDER") == "podman":  # without an unshared mount table it fails at cgroups
        inside = f"umount /sys/fs/cgroup/unified 2>/dev/null; exec {' '.join(command)}"
        command = ["unshare", "--mount", "sh", "-c", inside]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    subprocess.run(command, cwd=ROOT, env={**os.environ, **environment, "PATH": path}, check=True)


def _has_docker() -> bool:
    return (
        shutil.which("docker") is not None and subprocess.run(["docker", "info"], capture_output=True).returncode == 0
    )


def in_container(image: str, *command: str) -> str:
    """Return the output of a command in a new container."""
    done = subprocess.run(["docker", "run", "--rm", image, *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def installed_packages(image: str) -> dict[str, str]:
    """Return the versions of the Python packages of an image."""
    listed = in_container(image, "uv", "pip", "list", "--python", "/opt/venv/bin/python", "--format", "freeze")
    return dict(line.split("==") for line in listed.splitlines() if "==" in line)


class Server:
    """A running container."""

    def __init__(self, name: str) -> None:
        self.name = name

    def run(self, *command: str) -> int:
        """Run a command in the container and return its exit status."""
        return subprocess.run(["docker", "exec", self.name, *command], capture_output=True).returncode

    def log(self) -> str:
        done = subprocess.run(["docker", "logs", self.name], capture_output=True, text=True)
        return done.stdout + done.stderr

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition; the container must run meanwhile."""
        deadline = time.monotonic() + START_SECONDS
        while not condition():
            command = ["docker", "container", "inspect", "--format", "{{.State.Running}}", self.name]
            running = subprocess.run(command, capture_output=True, text=True).stdout.strip()
            assert running == "true" and time.monotonic() < deadline, self.log()
            time.sleep(1)


@contextmanager
def server(image: str, *options: str, command: tuple[str, ...] = (), **environment: str) -> Iterator[Server]:
    """Start a container with a read-only root and without privileges, and remove it at the end of the block."""
    name = f"audiocnn-test-{uuid.uuid4().hex[:12]}"
    variables = [item for key, value in environment.items() for item in ("--env", f"{key}={value}")]
    run = ["docker", "run", "--detach", "--name", name, *RESTRICTED, *options, *variables, image, *command]
    try:
        subprocess.run(run, check=True, capture_output=True)
        yield Server(name)
    finally:
        subprocess.run(["docker", "rm", "--force", name], capture_output=True)


def layers_contain(image: str, texts: Mapping[str, bytes]) -> set[str]:
    """Return the names of the texts that occur in the layers of an image, also in files that later layers delete."""
    found: set[str] = set()
    overlap = max(map(len, texts.values()))
    with subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        rest = b""
        while chunk := process.stdout.read(CHUNK):
            window = rest + chunk
            found |= {name for name, text in texts.items() if text in window}
            rest = window[-overlap:]
    assert process.returncode == 0
    return found
