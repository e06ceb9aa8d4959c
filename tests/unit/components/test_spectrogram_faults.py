"""Kills, SIGTERM and Ctrl-C on the real processes that compute spectrograms."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from helpers.processes import is_alive
from helpers.project import ROOT

from components.spectrograms import step
from pipeline.settings import PipelineSettings

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("cache")]
PROCESSES = 2
TIMEOUT = 120.0  # s, on a busy machine
# Slow enough for a signal during the computation. A file, because the processes of the pool import it.
SCRIPT = """
import time
from pathlib import Path
import typer
from components.spectrograms import compute, step
from mlops.command_line import errors_to_exit
from pipeline import settings

load = compute.load
compute.load = lambda *arguments: (time.sleep(0.2), load(*arguments))[1]
compute.BATCH_SIZE = 2

def main(dataset: Path, output: Path, cache: str, processes: int) -> None:
    with errors_to_exit():
        demo = settings.load(Path("params.yaml"), {"recipe": "demo"})
        step.spectrograms(dataset, demo.spectrograms, output, cache, processes)

if __name__ == "__main__":
    typer.run(main)
"""


@contextmanager
def computing(dataset: Path, folder: Path, processes: int = PROCESSES) -> Iterator[tuple[psutil.Popen, list]]:
    """Run the step in a process group of its own; yield its process and its workers when some entries exist."""
    script = folder / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(dataset), str(folder / "out"), str(folder / "cache"), str(processes)]
    running = psutil.Popen(
        command,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    workers = []
    try:
        wait_for(lambda: len(entries(folder)) > 4 * processes)
        workers = [child for child in running.children() if "spawn_main" in " ".join(child.cmdline())]
        yield running, workers
    finally:
        for process in (running, *workers):
            if process.is_running():
                process.kill()
        running.communicate()


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def entries(folder: Path) -> list[Path]:
    return [path for path in (folder / "cache").rglob("*") if path.is_file() and not path.name.startswith(".")]


def written(folder: Path) -> set[str]:
    """Return the files that the run has written next to the cache, hidden ones included."""
    return {path.name for path in folder.iterdir()} - {"cache", "script.py"}


def test_workers_end_when_their_parent_is_killed(dataset: Path, tiny: PipelineSettings, tmp_path: Path) -> None:
    with computing(dataset, tmp_path) as (running, workers):
        assert len(workers) == PROCESSES
        running.send_signal(signal.SIGKILL)
        running.wait(TIMEOUT)
        wait_for(lambda: not any(map(is_alive, workers)))
    (hidden,) = written(tmp_path)
    assert hidden.startswith(".out.")
    done = step.spectrograms(dataset, tiny.spectrograms, tmp_path / "out", str(tmp_path / "cache"))
    assert written(tmp_path) == {"out", hidden} and done.computed < done.clips


@pytest.mark.parametrize(
    ("processes", "number", "group"),
    [
        (1, signal.SIGTERM, False),
        (PROCESSES, signal.SIGTERM, False),
        (PROCESSES, signal.SIGTERM, True),
        (1, signal.SIGINT, False),
        (PROCESSES, signal.SIGINT, True),
    ],
)
def test_a_terminated_run_leaves_no_files_and_prints_no_traceback(
    processes: int, number: int, group: bool, dataset: Path, tmp_path: Path
) -> None:
    status, message = {signal.SIGTERM: (143, ""), signal.SIGINT: (130, "interrupted; incomplete output")}[number]
    with computing(dataset, tmp_path, processes) as (running, workers):
        if group:  # as a terminal and `timeout` do
            os.killpg(running.pid, number)
        else:
            running.send_signal(number)
        out = running.communicate(timeout=TIMEOUT)[0]
        assert running.returncode == status
        assert message in out and "Traceback" not in out and "Exception" not in out
        wait_for(lambda: not any(map(is_alive, workers)))
    assert written(tmp_path) == set()


def test_a_killed_worker_is_an_error_and_completed_entries_stay(
    dataset: Path, tiny: PipelineSettings, tmp_path: Path
) -> None:
    with computing(dataset, tmp_path) as (running, workers):
        workers[0].send_signal(signal.SIGKILL)
        out = running.communicate(timeout=TIMEOUT)[0]
        assert running.returncode == 2
    assert "error: one of 2 processes that compute spectrograms was killed, probably because memory ran out" in out
    assert "Traceback" not in out and written(tmp_path) == set()
    done = step.spectrograms(dataset, tiny.spectrograms, tmp_path / "out", str(tmp_path / "cache"))
    assert 0 < done.computed < done.clips
