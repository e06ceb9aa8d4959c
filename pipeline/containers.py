"""Run the steps of a local run in containers of the pipeline's image, with Docker's or podman's command line."""

import os
import shutil
import signal
import subprocess
import uuid
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from audiocnn.errors import AudioCNNError
from components.ingest.sources import DVC_REMOTE, Source
from mlops.image import IMAGE, IMAGE_VARIABLE
from pipeline.settings import PipelineSettings
from pipeline.steps import TRAINING_STEPS
from serving.torchserve.variables import INFERENCE_KEYS

STOP_SECONDS = 20  # for a step to clean up after an interrupt
ENVIRONMENT = ("MLFLOW_", "AWS_", DVC_REMOTE, INFERENCE_KEYS)  # prefixes of the variables that steps get


class ContainerError(AudioCNNError):
    """A missing engine or image, or a step that failed in its container."""


def container_steps(
    engine: str, settings: PipelineSettings, source: Source, folder: Path
) -> Mapping[str, Callable[..., Any]]:
    """Return functions that run `python -m components.STEP` in a container, by the step's name.

    A container sees var/ and a local source under the same paths as this process, runs as the same user and uses the
    network of this machine. A TorchServe started inside would end with its container, so the step deploy starts none.
    The resolved settings are written to `folder`.
    """
    state = Path("var").resolve()
    command = [engine, "run", "--init", "--network", "host", "--user", f"{os.getuid()}:{os.getgid()}"]
    command += ["--workdir", str(state.parent), *_mount(state)]
    if path := source.path:
        command += _mount(path.resolve(), readonly=True)
    for name in sorted(os.environ):
        if name.startswith(ENVIRONMENT):
            command += ["--env", name]
    command += ["--env", "HOME=/tmp", "--env", "PYTHONUNBUFFERED=1", "--env", f"{IMAGE_VARIABLE}={IMAGE}"]
    params = _write_params(settings.replace(deploy=settings.deploy.replace(start=False)), folder)
    steps = {name: partial(_run_step, name, command, params) for name in TRAINING_STEPS}
    steps["ingest"] = partial(steps["ingest"], source=path.resolve() if path else source.pinned())
    return steps


def find_engine() -> str:
    """Return the command of the container engine that has the image: the variable DOCKER, else docker or podman."""
    names = [os.environ["DOCKER"]] if os.environ.get("DOCKER") else ["docker", "podman"]
    engines = [engine for engine in map(shutil.which, names) if engine]
    if not engines:
        raise ContainerError(f"{' and '.join(names)}: not found; install Docker or podman, or name one with DOCKER=")
    for engine in engines:
        inspected = subprocess.run([engine, "image", "inspect", IMAGE], capture_output=True, text=True)
        if inspected.returncode == 0:
            return engine
    reason = (inspected.stderr.strip().splitlines() or ["no message"])[-1]
    raise ContainerError(f"{engine}: the image {IMAGE} is not available ({reason}); build it with `make images`")


def _mount(path: Path, readonly: bool = False) -> list[str]:
    return ["--mount", f"type=bind,source={path},target={path}{',readonly' if readonly else ''}"]


def _write_params(settings: PipelineSettings, folder: Path) -> Path:
    """Write the resolved settings as a params.yaml whose recipe adds nothing."""
    params = folder / "params.yaml"
    params.write_text(yaml.safe_dump(settings.to_dict(), sort_keys=False), encoding="utf-8")
    recipes = folder / "recipes"
    recipes.mkdir()
    (recipes / f"{settings.recipe}.yaml").write_text("{}\n", encoding="utf-8")
    return params


def _run_step(step: str, command: list[str], params: Path, **options: Any) -> None:
    """Run a step in a container and print its output; the errors of `components.STEP` become exceptions again."""
    name = f"audiocnn-{step}-{uuid.uuid4().hex[:12]}"
    module = [IMAGE, "python", "-m", f"components.{step}", "--params", str(params)]
    for key, value in options.items():
        module += [f"--{key}", str(value)]
    output: list[str] = []
    try:
        # In a session of its own, so that Ctrl-C reaches the container once.
        with subprocess.Popen(
            [*command, "--name", name, *module],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        ) as process:
            assert process.stdout is not None
            try:
                for line in process.stdout:
                    print(line, end="", flush=True)
                    output.append(line)
            except BaseException:
                _interrupt(process)
                raise
        status = process.returncode or _exit_status(command[0], name)
    finally:
        subprocess.run([command[0], "rm", "--force", name], capture_output=True)
    if status == 2:
        raise ContainerError(_error_message(output))
    if status != 0:
        raise RuntimeError(f"the container ended with status {status}: {_error_message(output)}")


def _exit_status(engine: str, name: str) -> int:
    """Return the exit status of a container: `docker run` loses that of short ones with podman's API."""
    command = [engine, "container", "inspect", "--format", "{{.State.ExitCode}}", name]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def _interrupt(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGINT)  # `docker run` passes it on
    try:
        process.communicate(timeout=STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()


def _error_message(output: list[str]) -> str:
    """Return what follows the last `error: `, which the steps' command lines print, else the last line."""
    _, found, message = "".join(output).rpartition("error: ")
    return message.strip() if found else (output or ["no output"])[-1].strip()
