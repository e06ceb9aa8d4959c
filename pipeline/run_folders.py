"""Local runs: their folders, var/runs/NAME-TIME, how many of them are kept, and their errors."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from audiocnn.errors import AudioCNNError

RUNS = Path("var/runs")
LOGS = Path("var/logs")
KEPT = 3  # successful runs of each pipeline; one of the demo has 200 MB, and models and reports are in MLflow too
UNFINISHED = "unfinished"  # lock file of a run; it stays in the folder of a run that does not succeed


class RunError(AudioCNNError):
    """A step that failed.

    Attributes:
        status: exit status for the command line: 2 for an error that the user can fix, 1 for a bug.
    """

    def __init__(self, message: str, step: str, status: int) -> None:
        super().__init__(message)
        self.step, self.status = step, status


@contextmanager
def run_folder(name: str) -> Iterator[tuple[Path, Path]]:
    """Create the folder of a run and yield it and the path of its log; remove old runs before and after it.

    While the block runs, no other process removes the folder.
    """
    LOGS.mkdir(parents=True, exist_ok=True)
    RUNS.mkdir(parents=True, exist_ok=True)
    with FileLock(RUNS / ".lock"):
        remove_old_runs(name)
        label = f"{name}-{datetime.now():%Y%m%d-%H%M%S-%f}"
        folder = (RUNS / label).resolve()
        folder.mkdir()
        lock = FileLock(folder / UNFINISHED)
        lock.acquire()
    try:
        yield folder, LOGS / f"{label}.log"
        (folder / UNFINISHED).unlink()
    finally:
        lock.release()
        with FileLock(RUNS / ".lock"):
            remove_old_runs(name)


def remove_old_runs(name: str) -> None:
    """Remove all runs of a pipeline but the newest successful ones and the newest unsuccessful one."""
    folders = [path for path in RUNS.iterdir() if re.fullmatch(rf"{re.escape(name)}-[0-9-]+", path.name)]
    folders.sort(key=lambda folder: folder.name, reverse=True)  # the names contain the time
    unfinished = [folder for folder in folders if (folder / UNFINISHED).exists()]
    successful = [folder for folder in folders if folder not in unfinished]
    failed = [folder for folder in unfinished if not _is_running(folder)]
    for folder in (*successful[KEPT:], *failed[1:]):
        shutil.rmtree(folder, ignore_errors=True)


def _is_running(folder: Path) -> bool:
    lock = FileLock(folder / UNFINISHED)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return True
    lock.release()
    return False
