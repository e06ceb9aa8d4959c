"""Computation of spectrograms into the cache and an array, with one process per core."""

import ctypes
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import xxhash

from audiocnn.audio import load
from audiocnn.config import SpectrogramSettings
from audiocnn.data.clips import DatasetError
from audiocnn.errors import AudioCNNError, AudioError
from audiocnn.features import LogMel
from components.spectrograms.rows import RowFile
from mlops.progress import report_progress
from mlops.spectrogram_cache.entries import SpectrogramCache
from mlops.storage import open_store

MIN_CLIPS_FOR_POOL = 1500  # starting a process (it imports torch) costs as much as computing about this many clips
BATCH_SIZE = 16  # clips per task of a process


class ComputeError(AudioCNNError):
    """A worker process was killed."""


class SpectrogramComputer:
    """The front end, applied to audio files."""

    def __init__(self, settings: SpectrogramSettings) -> None:
        _keep_freed_memory()
        self.settings = settings
        self.front_end = LogMel(settings)

    def __call__(self, file: Path, xxh3: str) -> npt.NDArray[np.float16]:
        """Return a clip's spectrogram, float16 (n_mels, frames), in dB; `xxh3` is the checksum of the file at ingest.

        Raises:
            DatasetError: the file is missing, cannot be decoded or has changed.
        """
        try:
            content = file.read_bytes()
            # The cache would keep the spectrogram of a changed file forever under the MD5 of the original. Computing
            # the MD5 itself would take a quarter of the time of the spectrogram.
            if xxhash.xxh3_128_hexdigest(content) != xxh3:
                raise DatasetError(f"{file.name}: the file changed after ingest; run ingest again")
            waveform = load(content, self.settings)
        except (AudioError, OSError) as error:
            raise DatasetError(f"{file.name}: {error}; the data set changed after ingest: run ingest again") from error
        # One clip at a time: on a CPU, a batch is slower per clip because it exceeds the processor's cache.
        values: npt.NDArray[np.float16] = self.front_end(torch.from_numpy(waveform)).half().numpy()
        return values


def _keep_freed_memory() -> None:
    """Make the C library keep freed memory instead of returning it to the kernel after every clip.

    Every clip needs the same few megabytes. Getting them back page by page can double the time of a computation.
    """
    if hasattr(library := ctypes.CDLL(None), "mallopt"):  # glibc
        trim_threshold, mmap_threshold = -1, -3  # from malloc.h; the maximum of the second is 32 MiB
        library.mallopt(trim_threshold, 2**28)
        library.mallopt(mmap_threshold, 2**25)


@dataclass(frozen=True)
class Job:
    """A clip to compute: audio file, MD5 (the key of the cache), checksum of the file, row in the array."""

    file: Path
    md5: str
    xxh3: str
    row: int


@dataclass(frozen=True)
class Target:
    """The destinations of the spectrograms: the address of the cache, and an array or None."""

    cache: str
    array: RowFile | None


def compute(jobs: Sequence[Job], settings: SpectrogramSettings, target: Target, processes: int | None = None) -> None:
    """Compute and write spectrograms, and print the progress.

    Args:
        processes: by default one per core if there are many clips. The number does not change the result.
    Raises:
        DatasetError: a file is missing, cannot be decoded or has changed.
        CacheError: the cache cannot be written, and there is no array.
        ComputeError: a process was killed.
    """
    if not jobs:
        return  # building the front end takes as long as copying 20 cached spectrograms
    if processes is None:
        processes = _available_cores() if len(jobs) >= MIN_CLIPS_FOR_POOL else 1
    done = 0
    with workers(settings, target, processes) as compute_batches:
        try:
            for count in compute_batches(jobs[first : first + BATCH_SIZE] for first in range(0, len(jobs), BATCH_SIZE)):
                done += count
                report_progress("spectrograms", "computed", done, len(jobs), count=count)
        except BrokenProcessPool as error:
            raise ComputeError(
                f"one of {processes} processes that compute spectrograms was killed, probably because memory ran out; "
                "provide more memory and run the step again: completed spectrograms are in the cache"
            ) from error


def _available_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def workers(
    settings: SpectrogramSettings, target: Target, processes: int
) -> Iterator[Callable[[Iterable[Sequence[Job]]], Iterator[int]]]:
    """Yield a function that computes batches of jobs and yields the number of clips in each, in order.

    One process is the current one. More are started with the first batch and end with the block.
    """
    if processes == 1:
        with closing(_Worker(settings, target)) as worker:
            yield partial(map, worker)
        return
    # spawn, because fork would copy the locks that threads of torch or KFP hold.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, context, initializer=_initialize_process)
    try:
        yield partial(pool.map, partial(_compute_batch, settings, target))
    finally:
        pool.shutdown(cancel_futures=True)


class _Worker:
    """Computes and writes spectrograms: returning them to the main process would take a third of the time."""

    def __init__(self, settings: SpectrogramSettings, target: Target) -> None:
        self.cache = SpectrogramCache(open_store(target.cache), settings, required=target.array is None)
        self.array = target.array
        self.file = target.array.open() if target.array else None
        self.threads = torch.get_num_threads()
        # A clip is too little work for several threads. With two, even building the front end takes 50 ms instead of 1.
        torch.set_num_threads(1)
        self.computer = SpectrogramComputer(settings)

    def close(self) -> None:
        torch.set_num_threads(self.threads)
        if self.file:
            self.file.close()

    def __call__(self, jobs: Sequence[Job]) -> int:
        for job in jobs:
            values = self.computer(job.file, job.xxh3)
            self.cache.put(job.md5, values)
            if self.array and self.file:
                self.array.write(self.file, job.row, values)
        self.cache.flush()
        return len(jobs)


_worker_of_process = lru_cache(maxsize=1)(_Worker)  # of a process of the pool; it ends with the process


def _compute_batch(settings: SpectrogramSettings, target: Target, jobs: Sequence[Job]) -> int:
    return _worker_of_process(settings, target)(jobs)


def _initialize_process() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal interrupts all processes; the main one ends the others
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    """Exit when the main process is killed. Otherwise the pool's processes would wait for tasks forever."""
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)
