"""Run a compiled pipeline on this machine: as processes, or in containers."""

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from rich.console import Console

from audiocnn.errors import AudioCNNError
from pipeline import graph
from pipeline.compile import COMPILED
from pipeline.progress import Progress
from pipeline.view import view
from pipeline.worker import GRACE_SECONDS

TRAINING = COMPILED / "training.yaml"
RUNS = Path("var/runs")
LOGS = Path("var/logs")
LOCK = ".lock"
KEPT = 3  # runs of one pipeline that ended well, the newest: one of the demo has 200 MB; what counts is in MLflow
UNFINISHED = "unfinished"  # stands in the folder of a run that is under way, or did not end well
POLL_SECONDS = 0.1


class RunError(AudioCNNError):
    """A run that failed, in `task` if it was in one. `status` is the exit status: 2 for what can be mended, else 1."""

    def __init__(self, message: str, status: int = 2, task: str = "") -> None:
        super().__init__(message)
        self.status, self.task = status, task


@dataclass(frozen=True)
class Run:
    """A run that ended well: which tasks ran, which were skipped behind a gate, and what they left behind."""

    ran: tuple[str, ...]
    skipped: tuple[str, ...]
    folder: Path
    log: Path

    def output(self, task: str, name: str) -> Path:
        """File or folder of one output of one task."""
        return self.folder / task / name


def run_local(arguments: Mapping[str, Any], pipeline: Path = TRAINING, console: Console | None = None) -> Run:
    """Run every task as a process of this Python; relative paths in `arguments` start at the working folder.

    Raises:
        SourceError: the source is a path on this machine, and there is no data set.
        RunError: a task failed, or other tasks ran than the gates allowed.
    """
    from components.ingest.sources import require_there

    require_there(str(arguments.get("source", "")))
    return _watch(_request(arguments, pipeline, None), pipeline, console or Console())


def run_docker(arguments: Mapping[str, Any], pipeline: Path = TRAINING, console: Console | None = None) -> Run:
    """Run every task in its container image, which has to be there (`make images`).

    The containers see var/ and a source's folder or .zip under the same paths as this process, write as the same user,
    and reach servers on loopback; a TorchServe started inside one would end with it, so deploy starts none.

    Raises:
        SourceError, RunError: as `run_local`.
    """
    from components.ingest.sources import DVC_REMOTE, is_local, local_path, require_there

    require_there(str(arguments.get("source", "")))  # as it was typed
    state = Path("var").resolve()
    state.mkdir(exist_ok=True)
    mounts = [(str(state), True)]
    if is_local(given := str(arguments.get("source", ""))):
        source = local_path(given).resolve()
        mounts.append((str(source), False))
        arguments = {**arguments, "source": str(source)}
    if "deploy" in arguments:
        arguments = {**arguments, "deploy": {**arguments["deploy"], "start": False}}
    passed = {key: value for key, value in os.environ.items() if key.startswith(("MLFLOW_", "AWS_", DVC_REMOTE))}
    container = {
        "mounts": mounts,
        "working_dir": str(state.parent),
        "user": f"{os.getuid()}:{os.getgid()}",
        "environment": {**passed, "HOME": "/tmp", "PYTHONUNBUFFERED": "1"},  # noqa: S108  inside the container
        "network_mode": "host",
    }
    return _watch(_request(arguments, pipeline, container), pipeline, console or Console())


def on_nodes(arguments: Mapping[str, Any]) -> bool:
    """Whether a pipeline's arguments ask for a training on several nodes."""
    return bool(arguments.get("trainjob", {}).get("nodes", 1) > 1)


def _request(arguments: Mapping[str, Any], pipeline: Path, container: Mapping[str, Any] | None) -> dict[str, Any]:
    known = graph.read(pipeline).parameters
    if unknown := sorted(set(arguments) - set(known)):
        raise RunError(f"{pipeline.name}: no such parameter: {', '.join(unknown)}; there are: {', '.join(known)}")
    if on_nodes(arguments):
        raise RunError("trainjob.nodes: a run on this machine trains on this machine; `audiocnn submit` has --nodes")
    root = str(RUNS.resolve())
    return {"pipeline": str(pipeline.resolve()), "arguments": dict(arguments), "root": root, "container": container}


def _watch(request: Mapping[str, Any], pipeline: Path, console: Console) -> Run:
    """Run the request in a worker process, show how far it is, and judge what came of it."""
    progress = Progress(graph.read(pipeline))
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / f"{progress.graph.name}-{datetime.now():%Y%m%d-%H%M%S-%f}.log"
    with (
        log.open("w", encoding="utf-8") as out,
        _among_runs(progress.graph.name, console) as lock,
        tempfile.TemporaryDirectory(prefix="audiocnn-", ignore_cleanup_errors=True) as scratch,
        _worker({**request, "scratch": scratch}, out, lock) as worker,
        view(console, progress) as shown,
    ):
        for line in _follow(log, worker):
            unknown = progress.folder is None
            if step := progress.feed(line, monotonic()):
                shown.changed(step)
            if unknown and progress.folder is not None:
                progress.folder.mkdir(parents=True, exist_ok=True)
                (progress.folder / UNFINISHED).touch()
        progress.finish()  # before the view ends: its last picture stays on the screen
    run = judge(progress, log, worker.returncode)
    (run.folder / UNFINISHED).unlink(missing_ok=True)
    with _alone() as alone:
        if alone:
            _prune(progress.graph.name, KEPT, console)
    return run


@contextmanager
def _among_runs(name: str, console: Console) -> Iterator[int]:
    """Be one of the runs under way in var/runs; those that failed go first, where this is the only one.

    Yields a file that stands for it: as long as a process has it open, nobody removes a run.
    """
    with _alone() as alone:
        if alone:
            _prune(name, None, console)
    with (RUNS / LOCK).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield lock.fileno()


@contextmanager
def _alone() -> Iterator[bool]:
    """Whether no run is under way; none begins within the block if so."""
    RUNS.mkdir(parents=True, exist_ok=True)
    with (RUNS / LOCK).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _prune(name: str, kept: int | None, console: Console) -> None:
    """Leave the newest `kept` runs of a pipeline that ended well, all for None, and of the others the newest."""
    runs = [folder for folder in RUNS.iterdir() if re.fullmatch(rf"{re.escape(name)}-[0-9-]+", folder.name)]
    runs.sort(key=lambda folder: folder.stat().st_mtime, reverse=True)
    failed = [folder for folder in runs if (folder / UNFINISHED).exists()]
    well = [folder for folder in runs if folder not in failed]
    old = sorted([*failed[1:], *(well[kept:] if kept else [])])
    for folder in old:
        shutil.rmtree(folder, ignore_errors=True)
    if old:
        kinds = f"the newest {KEPT} runs that ended well are kept, and the newest of the others"
        console.print(f"Removed {', '.join(map(str, old))}: {kinds}", highlight=False)


@contextmanager
def _worker(request: Mapping[str, Any], out: Any, lock: int) -> Iterator[subprocess.Popen[str]]:
    """The worker, in a session of its own: Ctrl-C reaches it through us only. Stopped when the block is left."""
    here = str(Path(__file__).resolve().parents[1])
    # The steps run the very code that this process runs, wherever it was started.
    path = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
    # Threads that spin while they wait take the processor from servers and other programs, and from each other: on two
    # busy cores a training takes twice as long.
    environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "pipeline.worker"]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=out,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        start_new_session=True,
        pass_fds=(lock,),  # it may outlive this process for a while
    ) as process:
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()  # and left open: that we are there, and want it to go on
            yield process
        finally:
            _stop(process)


def _stop(worker: subprocess.Popen[str]) -> None:
    """Let the steps clean up, then end whatever of the worker's session is left."""
    if worker.poll() is None:
        assert worker.stdin is not None
        worker.stdin.close()  # it interrupts its steps, and reads on what they say while they clean up
        try:
            worker.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()
    try:
        os.killpg(worker.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _follow(log: Path, worker: subprocess.Popen[str]) -> Iterator[str]:
    """Whole lines of a file that grows, until the process that writes it has ended."""
    with log.open(encoding="utf-8", errors="replace") as text:
        rest = ""
        while True:
            ended = worker.poll() is not None  # asked before reading: nothing is written after it
            for piece in text:
                rest += piece
                if rest.endswith("\n"):
                    yield rest
                    rest = ""
            if ended:
                return
            sleep(POLL_SECONDS)


def judge(progress: Progress, log: Path, status: int) -> Run:
    failed = progress.names("failed")
    if failed or status != 0:
        where = progress.steps[failed[0]].task.title if failed else progress.graph.name
        failure = progress.failure
        sentence = failure.sentence if failure else "it ended without saying why"
        status = 2 if failure and failure.mendable else 1
        raise RunError(f"{where}: {sentence}\nThe whole log: {log}", status, "".join(failed[:1]))
    assert progress.folder is not None
    run = Run(progress.names("done"), progress.names("skipped"), progress.folder, log)
    if wrong := _unexpected(progress, run):
        raise RunError(f"{progress.graph.name}: {wrong}\nThe whole log: {log}", 1)
    return run


def _unexpected(progress: Progress, run: Run) -> str:
    """KFP reports success whatever its conditions did; compare what ran with what each gate said."""
    for task in progress.graph.tasks:
        ran = task.name in run.ran
        if task.gate is None:
            if not ran:
                return f"{task.title} did not run, and nothing stands before it"
            continue
        said = _said(run, task.gate.task)
        if ran != (said == task.gate.value):
            return f"{task.title} {'ran' if ran else 'did not run'} although {task.gate.task} said {said!r}"
    return ""


def _said(run: Run, task: str) -> str | None:
    """The one unnamed output of a task that ran."""
    path = run.folder / task / "executor_output.json"
    if not path.is_file():
        return None
    output = json.loads(path.read_text(encoding="utf-8"))
    return str(output.get("parameterValues", {}).get("Output"))
