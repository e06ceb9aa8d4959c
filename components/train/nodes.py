"""Train on several nodes: hand the spectrograms to a TrainJob, follow it, and bring the model back."""

import hashlib
import json
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from audiocnn.atomic import atomic_file, atomic_folder
from audiocnn.classifier import METADATA_FILE
from audiocnn.data.clips import split
from audiocnn.data.spectrogram_set import SpectrogramSet
from audiocnn.training.loop import fingerprint
from components.train.settings import TrainJobSettings
from components.train.trainer import COMPLETE, FAILED, ClusterError, State, Trainer, TrainJobError
from components.train.trainjob import manifest
from mlops.artifacts import TrainingRequest
from mlops.image import own_image
from mlops.runtime import sigterm_as_interrupt
from mlops.storage import SCHEME

SHARED = Path("var")  # on a cluster the volume that this pod and the nodes mount
EXCHANGE = SHARED / "trainjobs"  # one folder a TrainJob: what goes to the nodes, and the model that comes back
POLL_SECONDS = 5.0
PATIENCE_SECONDS = 600.0  # with an API that does not answer: a control plane restarts, the nodes train on
GONE_SECONDS = 120.0  # for a TrainJob that was deleted to go
FIRST = "node-0"  # its process of rank 0 logs and writes
LAST_LINES = 20  # shown of another node, where that failed


def train(
    spectrograms: Path,
    request: TrainingRequest,
    nodes: TrainJobSettings,
    output: Path,
    checkpoints: str,
    code_digest: str,
    trainer: Trainer | None = None,
) -> None:
    """Train on `nodes.nodes` nodes of the cluster; `output` becomes what step.train would have written there.

    The TrainJob is named after all that its result depends on. Where one of that name runs already, of a process that
    was killed, this one goes on with it. It is deleted at its end, and when this process is told to stop; what it
    has reached by then lies in `checkpoints`.

    Args:
        checkpoints: a folder in var/, which the nodes share, or s3://bucket/prefix.
        code_digest: of the code in the image.
        trainer: the cluster; by default that of this pod.
    Raises:
        TrainJobError: it cannot be started, or failed; the message says why.
        DatasetError: as step.train, before a node is asked for.
    """
    data = SpectrogramSet.open(spectrograms)
    settings = request.settings
    split(data.clips, settings.fold, settings.hold_out)
    _require_shared(checkpoints)
    trainer = trainer or Trainer()
    kind = trainer.runtime_kind(nodes.runtime)
    identity = [request.recipe, request.trial, request.parent_run]
    parts = [fingerprint(settings, data.spec, code_digest), nodes.to_dict(), own_image(), *identity]
    name = f"audiocnn-{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]}"
    folder = EXCHANGE / name
    command = [
        *("components.train", "--request", str(folder / "request.json")),
        *("--spectrograms", str(folder / "spectrograms"), "--output", str(folder / "model")),
        *("--checkpoints", checkpoints),
    ]
    with sigterm_as_interrupt():
        _hand_over(spectrograms, request, folder)
        try:
            _start(trainer, manifest(name, own_image(), command, nodes, kind))
            _follow(trainer, name, time.monotonic() + nodes.max_hours * 3600 + PATIENCE_SECONDS)
            _bring_back(folder / "model", output, name)
        finally:
            _clean_up(trainer, name, folder)


def _require_shared(checkpoints: str) -> None:
    if not checkpoints.startswith(SCHEME) and not Path(checkpoints).resolve().is_relative_to(SHARED.resolve()):
        raise TrainJobError(f"checkpoints: {checkpoints!r} is not shared by the nodes; name a folder in var/, or s3://")


def _hand_over(spectrograms: Path, request: TrainingRequest, folder: Path) -> None:
    """What the nodes read; a killed process may have left it there, whole."""
    with atomic_file(folder / "request.json") as part:
        part.write_text(json.dumps(request.to_dict()), encoding="utf-8")
    if not (folder / "spectrograms").is_dir():
        with atomic_folder(folder / "spectrograms") as part:
            shutil.copytree(spectrograms, part, dirs_exist_ok=True)


def _start(trainer: Trainer, job: dict[str, Any]) -> None:
    """Start the TrainJob, or find the one that runs; one that failed makes room first."""
    name = job["metadata"]["name"]
    until = time.monotonic() + GONE_SECONDS
    while not trainer.create(job):
        state = trainer.state(name)
        if state is not None and state.ended != FAILED:
            print(f"[train] going on with TrainJob {name}, which was started before", flush=True)
            return
        if time.monotonic() > until:
            raise TrainJobError(f"TrainJob {name} failed before and does not go; `kubectl delete trainjob {name}`")
        trainer.delete(name)
        time.sleep(POLL_SECONDS)
    count = job["spec"]["trainer"]["numNodes"]
    print(f"[train] TrainJob {name} on {count} nodes, in namespace {trainer.namespace}", flush=True)


def _follow(trainer: Trainer, name: str, until: float) -> None:
    """Show the first node's log until the TrainJob has ended well.

    Raises:
        TrainJobError: it failed, vanished, or did not end in time.
        ClusterError: the API refuses, or did not answer for PATIENCE_SECONDS.
    """
    log, nodes, heard = _Log(), "", time.monotonic()
    while time.monotonic() < until:
        try:
            state = trainer.state(name)
            if state is None:
                raise TrainJobError(
                    f"TrainJob {name} was deleted while it ran; start again to go on from its checkpoint"
                )
            log.show(trainer.log(name, FIRST))
            heard = time.monotonic()
        except ClusterError as error:
            if not error.passing or time.monotonic() - heard > PATIENCE_SECONDS:
                raise
            time.sleep(POLL_SECONDS)
            continue
        if (now := ", ".join(f"{node} {phase}" for node, phase in sorted(state.nodes.items()))) != nodes:
            nodes = now
            print(f"[train] TrainJob {name}: {now}", flush=True)
        if state.ended == COMPLETE:
            return
        if state.ended == FAILED:
            raise TrainJobError(_why(trainer, name, state, log))
        time.sleep(POLL_SECONDS)
    raise TrainJobError(f"TrainJob {name} did not end in its time (trainjob.max_hours), and was ended")


@dataclass
class _Log:
    """Prints a log that is read again and again, each line once. A pod that was replaced begins anew."""

    seen: list[str] = field(default_factory=list)

    def show(self, lines: list[str]) -> None:
        known = len(self.seen)
        for line in lines[known:] if lines[:known] == self.seen else lines:
            print(line, flush=True)
        self.seen = lines or self.seen


def _why(trainer: Trainer, name: str, state: State, shown: _Log) -> str:
    """One sentence on a failed TrainJob; the last lines of the node that failed stand above it."""
    node = next((node for node, phase in sorted(state.nodes.items()) if phase == FAILED), FIRST)
    lines = trainer.log(name, node) if node != FIRST else []
    for line in lines[-LAST_LINES:]:
        print(f"{node}: {line}", flush=True)
    # A node whose peer is gone fails too, at times before it, and has nothing to say.
    for speaker, words in ((FIRST, shown.seen), (node, lines)):
        if said := [line.removeprefix("error: ") for line in words if line.startswith("error: ")]:
            return f"TrainJob {name} failed on {speaker}: {said[-1]}"
    return f"TrainJob {name} failed on {node}: {state.reason or 'see its last lines above'}"


def _bring_back(model: Path, output: Path, name: str) -> None:
    if not model.is_dir():
        raise TrainJobError(
            f"TrainJob {name} ended well, but there is no {model}: do its nodes mount the volume that this pod mounts?"
        )
    with atomic_folder(output, METADATA_FILE) as part:
        shutil.copytree(model, part, dirs_exist_ok=True)


def _clean_up(trainer: Trainer, name: str, folder: Path) -> None:
    """Give the nodes back. Where the API is away the TrainJob stays, and the next try goes on with it."""
    try:
        trainer.delete(name)
    except ClusterError as error:
        print(f"[train] {error}", flush=True)
        return
    shutil.rmtree(folder, ignore_errors=True)
