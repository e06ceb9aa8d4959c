"""`make bench-data`: spectrograms against the paths that most projects take, side by side in one run.

On the clips of a folder in ESC-50's layout, decoded to 16-bit WAV as the official release has them. Every figure is the
median of several runs that take turns, so that a busy machine slows all of them alike.
"""

import json
import multiprocessing
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Annotated, Any
from unittest import mock

import numpy as np
import numpy.typing as npt
import typer
from rich.console import Console
from rich.table import Table

from audiocnn.config import SpectrogramSettings
from audiocnn.data.clips import read_clips
from benchmarks import baselines
from benchmarks.clips import as_wav, scratch
from components.ingest.step import ingest
from components.spectrograms.compute import TOGETHER, Computer, Job, Target, workers
from components.spectrograms.step import jobs_of, spectrograms
from mlops.command_line import errors_to_exit
from pipeline import settings as pipeline_settings

NEW = 10  # clips that a grown data set has more
FEW = 400  # clips, of the smaller set in the measure of memory
TURN = 20  # clips that each path takes before the next one's turn
PROCESS_TURN = 10 * TOGETHER  # and that one and two processes take
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
TOLERANCE = 0.05  # dB, median over all bins: the baselines have to do the same work


def main(
    data: Annotated[Path, typer.Option(help="A folder in ESC-50's layout.")],
    runs: Annotated[int, typer.Option(min=1)] = 5,
    clips: Annotated[int, typer.Option(min=20, help="Of each run of the comparison with the baselines.")] = 200,
    output: Annotated[Path, typer.Option(help="Where the figures go.")] = Path("var/bench/data.json"),
) -> None:
    """Measure, print, and write down."""
    console = Console()
    settings = pipeline_settings.load(Path("params.yaml"))
    with errors_to_exit(), tempfile.TemporaryDirectory(dir=scratch()) as folder:
        dataset = Path(folder, "dataset")
        console.print(f"decoding {data} to WAV")
        ingest(str(as_wav(data, Path(folder, "wav"))), settings.ingest, dataset)
        jobs = _jobs(dataset)
        figures: dict[str, Any] = {"clips": len(jobs), "runs": runs}
        figures |= _paths([job.file for job in jobs[:clips]], settings.spectrograms, runs)
        figures |= _processes(jobs, settings.spectrograms, Path(folder), runs)
        figures |= _cache(dataset, settings.spectrograms, Path(folder), runs)
        figures |= _memory(dataset, Path(folder))
    _show(console, figures)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    console.print(f"written to {output}")


def ours(settings: SpectrogramSettings) -> Callable[[Path], npt.NDArray]:
    """The path of the step, which also holds each file against its checksum."""
    computer = Computer(settings)
    checksums = cache(lambda dataset: {job.file: job.xxh3 for job in _jobs(dataset)})
    return lambda file: computer(file, checksums(file.parent.parent)[file])


def _jobs(dataset: Path) -> list[Job]:
    """All clips of a data set."""
    table = read_clips(dataset / "clips.csv")
    return jobs_of(dataset, table, range(len(table)))


def _paths(files: list[Path], settings: SpectrogramSettings, runs: int) -> dict[str, Any]:
    """Clips per CPU-second of ours and the baselines', each in a process of its own, a few clips in turn."""
    rates: dict[str, list[float]] = {name: [] for name in WAYS}
    with ExitStack() as stack:
        pools = {name: stack.enter_context(_process(way, settings)) for name, way in WAYS.items()}
        first, *others = (pool.submit(_first, files[0]).result() for pool in pools.values())
        for name, other in zip(list(WAYS)[1:], others, strict=True):
            difference = float(np.median(np.abs(first - other)))
            assert difference < TOLERANCE, f"{name} computes something else: {difference:.3f} dB off in the median"
        for _ in range(runs):
            spent = dict.fromkeys(WAYS, 0.0)
            for turn, start in enumerate(range(0, len(files), TURN)):
                # Each goes first as often as the others: who comes later finds the files in the processor's cache.
                for name in [*WAYS, *WAYS][turn % len(WAYS) :][: len(WAYS)]:
                    spent[name] += pools[name].submit(_turn, files[start : start + TURN]).result()
            for name, seconds in spent.items():
                rates[name].append(len(files) / seconds)
    return {"clips per CPU-second": {name: statistics.median(rate) for name, rate in rates.items()}} | {
        f"times {name}": statistics.median(map(lambda ours, other: ours / other, rates["ours"], rates[name]))
        for name in WAYS
    }


# Each path: what makes it, and whether it is held to one thread. librosa comes with numpy's threads.
WAYS: dict[str, tuple[Callable[[SpectrogramSettings], Any], bool]] = {
    "ours": (ours, True),
    "plain": (baselines.plain, True),
    "librosa": (baselines.librosa, False),
    "librosa, one thread": (baselines.librosa, True),
}


@contextmanager
def _process(way: tuple[Callable[[SpectrogramSettings], Any], bool], settings: SpectrogramSettings) -> Iterator[Any]:
    """A process that computes one path."""
    make, one_thread = way
    with mock.patch.dict(os.environ, dict.fromkeys(THREADS, "1") if one_thread else {}):
        pool = ProcessPoolExecutor(
            1, multiprocessing.get_context("spawn"), initializer=_begin, initargs=(make, settings)
        )
        pool.submit(_ready).result()
    with pool:
        yield pool


_path: Any = None  # of a process


def _begin(make: Callable[[SpectrogramSettings], Any], settings: SpectrogramSettings) -> None:
    global _path
    _path = make(settings)


def _ready() -> None:
    """Returns when the process runs."""


def _first(file: Path) -> npt.NDArray[np.float32]:
    values: npt.NDArray[np.float32] = _path(file).astype(np.float32)
    return values


def _turn(files: list[Path]) -> float:
    """CPU-seconds of all threads, also those that spin."""
    return _seconds(lambda: [_path(file) for file in files], time.process_time)


def _processes(jobs: list[Job], settings: SpectrogramSettings, scratch: Path, runs: int) -> dict[str, Any]:
    """Clips per second of one and of two processes, all of them running, a few clips in turn."""
    rates: dict[int, list[float]] = {1: [], 2: []}
    with ExitStack() as stack:
        work, starts = {}, {}
        caches = {count: scratch / f"processes-{count}" for count in rates}
        for count in rates:
            work[count] = stack.enter_context(workers(settings, Target(str(caches[count]), None), count))
            begun = time.perf_counter()
            for _ in range(2):  # in the first round one of two may take every part while the other still starts
                deque(work[count](_parts(jobs[: 8 * TOGETHER])), maxlen=0)
                _aside(caches[count])
            starts[count] = time.perf_counter() - begun
        for _ in range(runs):
            os.sync()
            spent = dict.fromkeys(rates, 0.0)
            for turn, start in enumerate(range(0, len(jobs), PROCESS_TURN)):
                parts = _parts(jobs[start : start + PROCESS_TURN])
                for count in (1, 2) if turn % 2 else (2, 1):
                    begun = time.perf_counter()
                    deque(work[count](parts), maxlen=0)
                    spent[count] += time.perf_counter() - begun
            for count, seconds in spent.items():
                rates[count].append(len(jobs) / seconds)
                _aside(caches[count])
    return {
        "clips per second": {count: statistics.median(rate) for count, rate in rates.items()},
        "two processes": statistics.median(map(lambda one, two: two / one, rates[1], rates[2])),
        "start of two processes, s": starts[2],
    }


def _parts(jobs: list[Job]) -> list[list[Job]]:
    """Parts as `compute` makes them."""
    return [jobs[first : first + TOGETHER] for first in range(0, len(jobs), TOGETHER)]


def _aside(cache: Path) -> None:
    """Begin with an empty cache, and remove nothing: ext4 takes ten times as long to make a file while it passes over
    the inodes of files that went in the last minutes."""
    cache.rename(cache.with_name(f"{cache.name} at {time.monotonic_ns()}"))


def _cache(dataset: Path, settings: SpectrogramSettings, scratch: Path, runs: int) -> dict[str, Any]:
    """The whole step in one process: nothing cached, all cached, all but NEW cached."""
    table = read_clips(dataset / "clips.csv")
    small = _subset(dataset, scratch / "small", len(table) - NEW)
    cold, warm, grown = [], [], []
    for number in range(runs):
        cache = scratch / f"cache-{number}"

        def step(of: Path, cache: Path = cache) -> None:
            spectrograms(of, settings, scratch / "spectrograms", str(cache), processes=1)

        os.sync()  # what earlier runs have written must not be in the way of this one
        nearly = _seconds(lambda: step(small), time.perf_counter)
        os.sync()
        grown.append(_seconds(lambda: step(dataset), time.perf_counter))
        os.sync()
        cold.append(nearly * len(table) / (len(table) - NEW))
        warm.append(_seconds(lambda: step(dataset), time.perf_counter))
        shutil.rmtree(cache)
    return {
        "cold, s": statistics.median(cold),
        "warm, s": statistics.median(warm),
        "warm": statistics.median(map(lambda slow, fast: slow / fast, cold, warm)),
        f"{NEW} new clips, share of cold": statistics.median(map(lambda slow, few: few / slow, cold, grown)),
    }


def _memory(dataset: Path, scratch: Path) -> dict[str, Any]:
    """Peak memory in MB of a process that computes FEW clips, and of one that computes all."""
    peaks = {}
    for clips in (FEW, len(read_clips(dataset / "clips.csv"))):
        part = _subset(dataset, scratch / f"part-{clips}", clips)
        command = [sys.executable, "-m", "benchmarks.data", "peak", str(part), str(scratch / f"memory-{clips}")]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        peaks[clips] = float(done.stdout.splitlines()[-1])
    few, all_ = peaks.values()
    return {"peak memory, MB": peaks, "growth of memory": all_ / few}


def peak(dataset: Path, scratch: Path) -> None:
    """Run the step on an empty cache and print the process's peak memory in MB."""
    settings = pipeline_settings.load(Path("params.yaml")).spectrograms
    spectrograms(dataset, settings, scratch / "spectrograms", str(scratch / "cache"), processes=1)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def _subset(dataset: Path, folder: Path, clips: int) -> Path:
    """The data set with its first clips only."""
    folder.mkdir()
    (folder / "audio").symlink_to((dataset / "audio").resolve())
    shutil.copyfile(dataset / "dataset.json", folder / "dataset.json")
    read_clips(dataset / "clips.csv").iloc[:clips].to_csv(folder / "clips.csv", index=False)
    return folder


def _seconds(work: Callable[[], object], clock: Callable[[], float]) -> float:
    begun = clock()
    work()
    return clock() - begun


def _show(console: Console, figures: dict[str, Any]) -> None:
    rates = figures["clips per CPU-second"]
    table = Table(title=f"spectrograms of {figures['clips']} clips, median of {figures['runs']} runs")
    table.add_column("measure")
    table.add_column("figure", justify="right")
    table.add_column("goal", justify="right")
    for what, figure, goal in (
        (f"cold, one process: {rates['ours']:.0f} clips per CPU-second", "", ""),
        (f"against soundfile + torchaudio ({rates['plain']:.0f})", f"{figures['times plain']:.2f} times", "1.7"),
        (f"against librosa as it comes ({rates['librosa']:.0f})", f"{figures['times librosa']:.2f} times", "3"),
        (
            f"against librosa held to one thread ({rates['librosa, one thread']:.0f})",
            f"{figures['times librosa, one thread']:.2f} times",
            "",
        ),
        (
            f"two processes against one (started in {figures['start of two processes, s']:.1f} s)",
            f"{figures['two processes']:.2f} times",
            "1.7",
        ),
        (
            f"all cached ({figures['warm, s']:.2f} s) against none ({figures['cold, s']:.1f} s)",
            f"{figures['warm']:.0f} times",
            "50",
        ),
        (f"{NEW} new clips", f"{100 * figures[f'{NEW} new clips, share of cold']:.1f} % of cold", "3 %"),
        (
            "peak memory, "
            + ", ".join(f"{clips} clips {mb:.0f} MB" for clips, mb in figures["peak memory, MB"].items()),
            f"{figures['growth of memory']:.2f} times",
            "1",
        ),
    ):
        table.add_row(what, figure, goal)
    console.print(table)


if __name__ == "__main__":
    if sys.argv[1:2] == ["peak"]:
        peak(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        typer.run(main)
