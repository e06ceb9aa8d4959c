"""What may happen to the processes that compute spectrograms, injected on real ones: kills, SIGTERM, Ctrl-C."""

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
from helpers.project import ROOT

from components.spectrograms import step
from pipeline.settings import PipelineSettings

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("cache")]
PROCESSES = 2
PATIENCE = 120.0  # s, on a busy machine
# Slow enough for a kill in the middle. Workers import this file as well, so it has to be one.
SCRIPT = """
import time
from pathlib import Path
import typer
from audiocnn import params
from components.command import errors_to_exit
from components.spectrograms import compute, step

load = compute.load
compute.load = lambda *given: (time.sleep(0.2), load(*given))[1]
compute.TOGETHER = 2

def main(dataset: Path, output: Path, cache: str, processes: int) -> None:
    with errors_to_exit():
        step.spectrograms(dataset, pipeline_settings.load(Path("params.yaml")).spectrograms, output, cache, processes)

if __name__ == "__main__":
    typer.run(main)
"""


@contextmanager
def computing(dataset: Path, folder: Path, processes: int = PROCESSES) -> Iterator[tuple[psutil.Popen, list]]:
    """The step as a process of its own, in a session of its own, and its workers, each with something done."""
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
        until(lambda: len(entries(folder)) > 4 * processes)
        workers = [child for child in running.children() if "spawn_main" in " ".join(child.cmdline())]
        yield running, workers
    finally:
        for process in (running, *workers):
            if process.is_running():
                process.kill()
        running.communicate()


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def entries(folder: Path) -> list[Path]:
    return [path for path in (folder / "cache").rglob("*") if path.is_file() and not path.name.startswith(".")]


def left(folder: Path) -> set[str]:
    """What the run has written beside the cache, hidden parts too."""
    return {path.name for path in folder.iterdir()} - {"cache", "script.py"}


def gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_workers_end_when_their_parent_is_killed_and_the_next_run_sweeps(
    dataset: Path, tiny: PipelineSettings, tmp_path: Path
) -> None:
    with computing(dataset, tmp_path) as (running, workers):
        assert len(workers) == PROCESSES
        running.send_signal(signal.SIGKILL)
        running.wait(PATIENCE)
        until(lambda: all(map(gone, workers)))
    (hidden,) = left(tmp_path)
    assert hidden.startswith(".out.")
    done = step.spectrograms(dataset, tiny.spectrograms, tmp_path / "out", str(tmp_path / "cache"))
    assert left(tmp_path) == {"out"} and done.computed < done.clips


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
def test_whatever_ends_a_run_it_cleans_up_and_says_no_more_than_a_sentence(
    processes: int, number: int, group: bool, dataset: Path, tmp_path: Path
) -> None:
    status, said = {signal.SIGTERM: (143, ""), signal.SIGINT: (130, "interrupted; nothing half-written")}[number]
    with computing(dataset, tmp_path, processes) as (running, workers):
        if group:  # as a terminal and `timeout` do
            os.killpg(running.pid, number)
        else:
            running.send_signal(number)
        out = running.communicate(timeout=PATIENCE)[0]
        assert running.returncode == status
        assert said in out and "Traceback" not in out and "Exception" not in out
        until(lambda: all(map(gone, workers)))
    assert left(tmp_path) == set()


def test_a_worker_that_is_killed_is_told_in_a_sentence_and_what_is_done_stays(
    dataset: Path, tiny: PipelineSettings, tmp_path: Path
) -> None:
    with computing(dataset, tmp_path) as (running, workers):
        workers[0].send_signal(signal.SIGKILL)
        out = running.communicate(timeout=PATIENCE)[0]
        assert running.returncode == 2
    assert "error: one of 2 processes that compute spectrograms was killed, probably because memory ran out" in out
    assert "Traceback" not in out and left(tmp_path) == set()
    done = step.spectrograms(dataset, tiny.spectrograms, tmp_path / "out", str(tmp_path / "cache"))
    assert 0 < done.computed < done.clips
