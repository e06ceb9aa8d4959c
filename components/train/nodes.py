"""Train on several nodes: start a TrainJob on the spectrograms, follow it, and copy the model back."""

import hashlib
import json
import shutil
import time
from pathlib import Path
from typing import Any

from audiocnn.atomic import atomic_file, atomic_folder
from audiocnn.data.clips import split
from audiocnn.data.spectrogram_set import SpectrogramSet
from audiocnn.training.checkpoint import fingerprint
from components.train.settings import ResourceSettings
from components.train.trainjob_client import COMPLETE, FAILED, KubernetesError, TrainJobClient, TrainJobError
from components.train.trainjob_manifest import manifest
from mlops.artifacts import ModelFolder, TrainingRequest
from mlops.image import IMAGE, own_image
from mlops.provenance import training_code_version
from mlops.runtime import sigterm_as_interrupt
from mlops.storage import SCHEME

SHARED = Path("var")  # on a cluster, the volume that this pod and the nodes mount
EXCHANGE = SHARED / "trainjobs"  # one folder per TrainJob, with its inputs and its model
POLL_SECONDS = 5.0
MAIN_NODE = "node-0"  # its process of rank 0 logs and writes
SHOWN_LINES = 20  # of the log of another node that failed


def train(
    spectrograms: Path,
    request: TrainingRequest,
    resources: ResourceSettings,
    output: Path,
    checkpoints: str,
    client: TrainJobClient | None = None,
) -> None:
    """Train on `resources.nodes` nodes of the cluster and write the same model folder as `step.train`.

    The name of the TrainJob depends on everything that its result depends on. If a TrainJob of that name is running,
    started by a process that was killed, this process continues with it. The TrainJob is deleted at its end and when
    this process is interrupted; its progress is then in `checkpoints`.

    Args:
        checkpoints: a folder in var/, which the nodes share, or s3://bucket/prefix.
        client: the cluster; by default the one of this pod.
    """
    data = SpectrogramSet.open(spectrograms)
    settings = request.settings
    split(data.clips, **settings.roles)
    _check_shared(checkpoints)
    client = client or TrainJobClient()
    kind = client.runtime_kind(resources.runtime)
    image = own_image() or IMAGE
    name = _job_name(image, request, fingerprint(settings, data.spec, training_code_version()), resources)
    folder = EXCHANGE / name
    command = [
        *("components.train", "--request", str(folder / "request.json")),
        *("--spectrograms", str(folder / "spectrograms"), "--output", str(folder / "model")),
        *("--checkpoints", checkpoints),
    ]
    with sigterm_as_interrupt():
        _write_inputs(spectrograms, request, folder)
        try:
            _start(client, manifest(name, image, command, resources, kind))
            _follow(client, name)
            _copy_model(folder / "model", output, name)
        finally:
            _clean_up(client, name, folder)


def _job_name(image: str, request: TrainingRequest, training: str, resources: ResourceSettings) -> str:
    parts = [training, resources.to_dict(), image, request.recipe, request.trial, request.parent_run]
    return f"audiocnn-{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]}"


def _check_shared(checkpoints: str) -> None:
    if not checkpoints.startswith(SCHEME) and not Path(checkpoints).resolve().is_relative_to(SHARED.resolve()):
        raise TrainJobError(
            f"checkpoints: the nodes do not share {checkpoints!r}; choose a folder in var/ or s3://bucket/prefix"
        )


def _write_inputs(spectrograms: Path, request: TrainingRequest, folder: Path) -> None:
    """Write what the nodes read. Complete spectrograms of a killed process are used again."""
    with atomic_file(folder / "request.json") as part:
        part.write_text(json.dumps(request.to_dict()), encoding="utf-8")
    if not (folder / "spectrograms").is_dir():
        with atomic_folder(folder / "spectrograms") as part:
            shutil.copytree(spectrograms, part, dirs_exist_ok=True)


def _start(client: TrainJobClient, job: dict[str, Any]) -> None:
    name = job["metadata"]["name"]
    if client.create(job):
        count = job["spec"]["trainer"]["numNodes"]
        print(f"[train] TrainJob {name} on {count} nodes, in namespace {client.namespace}", flush=True)
        return
    running = client.get(name)
    if running is None or running.status == FAILED:
        raise TrainJobError(f"TrainJob {name} failed earlier and is being deleted; run the step train again")
    print(f"[train] continuing with TrainJob {name}, which is already running", flush=True)


def _follow(client: TrainJobClient, name: str) -> None:
    """Print the main node's log until the TrainJob is complete. The cluster ends it after resources.max_hours."""
    printed: list[str] = []
    phases = ""
    while True:
        job = client.get(name)
        if job is None:
            raise TrainJobError(f"TrainJob {name} was deleted while it ran; start it again to resume")
        printed = _print_new(client.log(name, MAIN_NODE), printed)
        if (current := ", ".join(sorted(f"{step.name} {step.status}" for step in job.steps))) != phases:
            phases = current
            print(f"[train] TrainJob {name}: {phases}", flush=True)
        if job.status == COMPLETE:
            return
        if job.status == FAILED:
            node = min((step.name for step in job.steps if step.status == FAILED), default=MAIN_NODE)
            raise TrainJobError(_explain_failure(client, name, node, printed))
        time.sleep(POLL_SECONDS)


def _print_new(log: list[str], printed: list[str]) -> list[str]:
    """Print the lines of a log that are new, and return the log. That of a replaced pod is printed from its start."""
    count = len(printed)
    for line in log[count:] if log[:count] == printed else log:
        print(line, flush=True)
    return log or printed


def _explain_failure(client: TrainJobClient, name: str, node: str, main_log: list[str]) -> str:
    """Return one sentence on a failed TrainJob, and print the last lines of the node that failed."""
    lines = client.log(name, node) if node != MAIN_NODE else []
    for line in lines[-SHOWN_LINES:]:
        print(f"{node}: {line}", flush=True)
    # A node whose peer is gone fails as well, sometimes first, without an error message of its own.
    for source, log in ((MAIN_NODE, main_log), (node, lines)):
        if errors := [line.removeprefix("error: ") for line in log if line.startswith("error: ")]:
            return f"TrainJob {name} failed on {source}: {errors[-1]}"
    return (
        f"TrainJob {name} failed on {node} without an error message; see its last lines above and resources.max_hours"
    )


def _copy_model(model: Path, output: Path, name: str) -> None:
    if not model.is_dir():
        raise TrainJobError(f"TrainJob {name} is complete without {model}; mount this pod's volume on its nodes")
    with ModelFolder.create(output) as folder:
        shutil.copytree(model, folder.path, dirs_exist_ok=True)


def _clean_up(client: TrainJobClient, name: str, folder: Path) -> None:
    """Delete the TrainJob and its files. If the API does not answer, both remain, and the next attempt uses them."""
    try:
        client.delete(name)
    except KubernetesError as error:
        print(f"[train] {error}", flush=True)
        return
    shutil.rmtree(folder, ignore_errors=True)
