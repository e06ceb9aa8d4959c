"""`make bench-data`: computing spectrograms, compared with common implementations in the same run.

The clips of a folder in ESC-50's layout are decoded to 16-bit WAV first. Every figure is the median of several runs, in
which the alternatives take turns, so that other load on the machine affects all of them.
"""

import json
import multiprocessing
import os
import re
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from statistics import median
from typing import Annotated, Any
from unittest import mock

import numpy as np
import numpy.typing as npt
import typer
from rich.console import Console
from rich.table import Table

from audiocnn.config import SpectrogramSettings
from benchmarks.baselines import SpectrogramFunction, librosa_spectrogram, torchaudio_spectrogram
from benchmarks.wav import SCRATCH, write_wav
from components.ingest.step import ingest
from components.spectrograms.compute import BATCH_SIZE, Job, SpectrogramComputer, Target, workers
from components.spectrograms.step import make_jobs, spectrograms
from mlops.artifacts import DatasetFolder
from mlops.command_line import run
from pipeline import settings as pipeline_settings

NEW_CLIPS = 10  # clips added to a cached data set
SMALL = 400  # clips of the smaller data set whose peak memory is measured
TURN = 20  # clips that each implementation computes before the next one's turn
PROCESSES_TURN = 10 * BATCH_SIZE  # the same for one and two processes
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
TOLERANCE = 0.05  # dB, median over all bins: the baselines have to compute the same

Factory = Callable[[SpectrogramSettings], SpectrogramFunction]


def main(
    data: Annotated[Path, typer.Option(help="Folder in ESC-50's layout.")],
    runs: Annotated[int, typer.Option(min=1, help="Number of runs.")] = 5,
    clips: Annotated[int, typer.Option(min=20, help="Clips in each run of the comparison with the baselines.")] = 200,
    output: Annotated[Path, typer.Option(help="File for the figures.")] = Path("var/bench/data.json"),
) -> None:
    """Measure, print the figures and write them as JSON."""
    console = Console()
    SCRATCH.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=SCRATCH) as name:
        folder, settings = Path(name), pipeline_settings.load()
        console.print(f"decoding {data} to WAV")
        ingest(str(write_wav(data, folder / "wav")), settings.ingest, settings.spectrograms, folder / "dataset")
        jobs = _all_jobs(folder / "dataset")
        figures: dict[str, Any] = {"clips": len(jobs), "runs": runs}
        figures |= _compare_implementations([job.file for job in jobs[:clips]], settings.spectrograms, runs)
        figures |= _compare_process_counts(jobs, settings.spectrograms, folder, runs)
        figures |= _measure_cache(folder / "dataset", settings.spectrograms, folder, runs)
        figures |= _measure_memory(folder / "dataset", folder)
    _print(console, figures)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    console.print(f"written to {output}")


def step_spectrogram(settings: SpectrogramSettings) -> SpectrogramFunction:
    """Return the computation of the step spectrograms, which verifies the checksum of each file."""
    computer = SpectrogramComputer(settings)
    checksums = cache(lambda dataset: {job.file: job.xxh3 for job in _all_jobs(dataset)})
    return lambda file: computer(file, checksums(file.parent.parent)[file])


# By name: the implementation, and whether it is limited to one thread. librosa by default uses numpy's threads.
IMPLEMENTATIONS: dict[str, tuple[Factory, bool]] = {
    "step": (step_spectrogram, True),
    "torchaudio": (torchaudio_spectrogram, True),
    "librosa": (librosa_spectrogram, False),
    "librosa, one thread": (librosa_spectrogram, True),
}


def _all_jobs(dataset: Path) -> list[Job]:
    table = DatasetFolder(dataset).clips()
    return make_jobs(dataset, table, range(len(table)))


def _compare_implementations(files: list[Path], settings: SpectrogramSettings, runs: int) -> dict[str, Any]:
    """Measure clips per CPU-second, each implementation in its own process."""
    names = list(IMPLEMENTATIONS)
    rates: dict[str, list[float]] = {name: [] for name in names}
    with ExitStack() as stack:
        pools = {name: stack.enter_context(_process(*IMPLEMENTATIONS[name], settings)) for name in names}
        expected, *others = (pool.submit(_compute_one, files[0]).result() for pool in pools.values())
        for name, values in zip(names[1:], others, strict=True):
            difference = float(np.median(np.abs(expected - values)))
            assert difference < TOLERANCE, f"{name}: the median difference is {difference:.3f} dB"
        for _ in range(runs):
            spent = dict.fromkeys(names, 0.0)
            for turn, start in enumerate(range(0, len(files), TURN)):
                first = turn % len(names)  # the first one reads the files from disk, the others from memory
                for name in names[first:] + names[:first]:
                    spent[name] += pools[name].submit(_cpu_seconds, files[start : start + TURN]).result()
            for name, seconds in spent.items():
                rates[name].append(len(files) / seconds)
    return {
        "clips per CPU-second": {name: median(rate) for name, rate in rates.items()},
        "speedup": {name: _median_ratio(rates["step"], rates[name]) for name in names[1:]},
    }


@contextmanager
def _process(factory: Factory, one_thread: bool, settings: SpectrogramSettings) -> Iterator[ProcessPoolExecutor]:
    """Start a process for one implementation."""
    context = multiprocessing.get_context("spawn")
    with mock.patch.dict(os.environ, dict.fromkeys(THREAD_VARIABLES, "1") if one_thread else {}):
        pool = ProcessPoolExecutor(1, context, initializer=_initialize, initargs=(factory, settings))
        pool.submit(os.getpid).result()  # returns when the process has started
    with pool:
        yield pool


_spectrogram: SpectrogramFunction  # of a process


def _initialize(factory: Factory, settings: SpectrogramSettings) -> None:
    global _spectrogram
    _spectrogram = factory(settings)


def _compute_one(file: Path) -> npt.NDArray[np.float32]:
    values: npt.NDArray[np.float32] = _spectrogram(file).astype(np.float32)
    return values


def _cpu_seconds(files: list[Path]) -> float:
    """Return the CPU time of all threads."""
    return _seconds(lambda: [_spectrogram(file) for file in files], time.process_time)


def _compare_process_counts(jobs: list[Job], settings: SpectrogramSettings, folder: Path, runs: int) -> dict[str, Any]:
    """Measure clips per second of one and of two processes that are already running."""
    rates: dict[int, list[float]] = {1: [], 2: []}
    caches = {count: folder / f"processes-{count}" for count in rates}
    with ExitStack() as stack:
        compute, start_seconds = {}, {}
        for count in rates:
            compute[count] = stack.enter_context(workers(settings, Target(str(caches[count]), None), count))
            begin = time.perf_counter()
            for _ in range(2):  # in the first pass, one process may compute everything while the other still starts
                deque(compute[count](_split(jobs[: 8 * BATCH_SIZE])), maxlen=0)
                _set_aside(caches[count])
            start_seconds[count] = time.perf_counter() - begin
        for _ in range(runs):
            os.sync()
            spent = dict.fromkeys(rates, 0.0)
            for turn, start in enumerate(range(0, len(jobs), PROCESSES_TURN)):
                parts = _split(jobs[start : start + PROCESSES_TURN])
                for count in (1, 2) if turn % 2 else (2, 1):
                    begin = time.perf_counter()
                    deque(compute[count](parts), maxlen=0)
                    spent[count] += time.perf_counter() - begin
            for count, seconds in spent.items():
                rates[count].append(len(jobs) / seconds)
                _set_aside(caches[count])
    return {
        "clips per second": {count: median(rate) for count, rate in rates.items()},
        "two processes": _median_ratio(rates[2], rates[1]),
        "start of two processes, s": start_seconds[2],
    }


def _split(jobs: list[Job]) -> list[list[Job]]:
    return [jobs[first : first + BATCH_SIZE] for first in range(0, len(jobs), BATCH_SIZE)]


def _set_aside(cache: Path) -> None:
    """Empty a cache without deleting files: for minutes after it, ext4 creates files ten times slower."""
    cache.rename(cache.with_name(f"{cache.name} at {time.monotonic_ns()}"))


def _measure_cache(dataset: Path, settings: SpectrogramSettings, folder: Path, runs: int) -> dict[str, Any]:
    """Measure the step in one process, with nothing cached, all cached, and all but NEW_CLIPS cached.

    Each run writes a new folder, as the runs of the pipeline do. Replacing an output would also measure its deletion.
    """
    count = len(DatasetFolder(dataset).clips())
    small = _subset(dataset, folder / "small", count - NEW_CLIPS)
    cold, warm, grown = [], [], []
    for repeat in range(runs):
        cache, output = folder / f"cache-{repeat}", folder / f"output-{repeat}"

        def step(data: Path, cache: Path = cache, output: Path = output) -> float:
            os.sync()  # or writes of earlier runs would slow this one down
            seconds = _seconds(lambda: spectrograms(data, settings, output, str(cache), processes=1))
            shutil.rmtree(output)
            return seconds

        cold.append(step(small) * count / (count - NEW_CLIPS))
        grown.append(step(dataset))
        warm.append(step(dataset))
        shutil.rmtree(cache)
    return {
        "cold, s": median(cold),
        "warm, s": median(warm),
        "warm": _median_ratio(cold, warm),
        "new clips, share of cold": _median_ratio(grown, cold),
    }


def _measure_memory(dataset: Path, folder: Path) -> dict[str, Any]:
    """Measure the peak memory in MB of the step on SMALL clips and on all clips."""
    peaks = {}
    for clips in (SMALL, len(DatasetFolder(dataset).clips())):
        part = _subset(dataset, folder / f"part-{clips}", clips)
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            peaks[clips] = pool.submit(_peak_memory, part, folder / f"memory-{clips}").result()
    small, full = peaks.values()
    return {"peak memory, MB": peaks, "growth of memory": full / small}


def _peak_memory(dataset: Path, folder: Path) -> float:
    """Run the step with an empty cache and return the peak memory of the process in MB."""
    settings = pipeline_settings.load().spectrograms
    spectrograms(dataset, settings, folder / "spectrograms", str(folder / "cache"), processes=1)
    status = Path("/proc/self/status").read_text(encoding="utf-8")  # ru_maxrss is at least that of the parent process
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) / 1024


def _subset(dataset: Path, folder: Path, clips: int) -> Path:
    """Write a data set of the first clips."""
    folder.mkdir()
    (folder / "audio").symlink_to((dataset / "audio").resolve())
    record = DatasetFolder(dataset).record()
    DatasetFolder(folder).write_clips(DatasetFolder(dataset).clips().iloc[:clips], record.source, record.origin)
    return folder


def _seconds(work: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    begin = clock()
    work()
    return clock() - begin


def _median_ratio(numerators: list[float], denominators: list[float]) -> float:
    return median(map(lambda a, b: a / b, numerators, denominators))


def _print(console: Console, figures: dict[str, Any]) -> None:
    rates, speedup = figures["clips per CPU-second"], figures["speedup"]
    memory = ", ".join(f"{clips} clips {mb:.0f} MB" for clips, mb in figures["peak memory, MB"].items())
    start = figures["start of two processes, s"]
    rows = [
        (f"nothing cached, one process: {rates['step']:.0f} clips per CPU-second", "", ""),
        (f"against soundfile + torchaudio ({rates['torchaudio']:.0f})", f"{speedup['torchaudio']:.2f} times", "1.7"),
        (f"against librosa with default threads ({rates['librosa']:.0f})", f"{speedup['librosa']:.2f} times", "3"),
        (
            f"against librosa with one thread ({rates['librosa, one thread']:.0f})",
            f"{speedup['librosa, one thread']:.2f} times",
            "",
        ),
        (f"two processes against one (started in {start:.1f} s)", f"{figures['two processes']:.2f} times", "1.7"),
        (
            f"all cached ({figures['warm, s']:.2f} s) against nothing cached ({figures['cold, s']:.1f} s)",
            f"{figures['warm']:.0f} times",
            "50",
        ),
        (f"{NEW_CLIPS} new clips", f"{100 * figures['new clips, share of cold']:.1f} % of cold", "3 %"),
        (f"peak memory, {memory}", f"{figures['growth of memory']:.2f} times", "1"),
    ]
    table = Table(title=f"spectrograms of {figures['clips']} clips, median of {figures['runs']} runs")
    table.add_column("measure")
    table.add_column("figure", justify="right")
    table.add_column("goal", justify="right")
    for row in rows:
        table.add_row(*row)
    console.print(table)


if __name__ == "__main__":
    run(main)
