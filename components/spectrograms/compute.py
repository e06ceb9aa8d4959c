"""Files -> spectrograms in the cache and in the array, on as many processes as there are cores."""

import ctypes
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import xxhash

from audiocnn.audio import AudioError, load
from audiocnn.config import SpectrogramSettings
from audiocnn.data.clips import DatasetError
from audiocnn.errors import AudioCNNError
from audiocnn.features import LogMel
from components.spectrograms.rows import RowFile
from mlops.runtime import defer_signals
from mlops.spectrogram_cache.entries import SpectrogramCache
from mlops.storage import open_store

WORTH_PROCESSES = 1500  # clips; a process that imports torch costs about as much as computing this many
TOGETHER = 16  # clips that a process takes at once
CHANGED = "the data set changed after ingest: run ingest again"


class ComputeError(AudioCNNError):
    """A process that was killed from outside."""


class Computer:
    """The front end, applied to one file after the other."""

    def __init__(self, settings: SpectrogramSettings) -> None:
        _keep_memory()
        self.settings = settings
        self.front_end = LogMel(settings)

    def __call__(self, file: Path, xxh3: str) -> npt.NDArray[np.float16]:
        """The clip's spectrogram, float16 (n_mels, frames), in dB.

        Raises:
            DatasetError: the file is gone or broken, or its bytes are not those of `xxh3`: what they give would stand
                in the cache under another clip's name, for everybody and for good.
        """
        try:
            content = file.read_bytes()
            # Not MD5, which takes a quarter of the time that computing does.
            if xxhash.xxh3_128_hexdigest(content) != xxh3:
                raise DatasetError(f"{file.name}: its bytes are others; {CHANGED}")
            waveform = load(content, self.settings)
        except (AudioError, OSError) as error:
            raise DatasetError(f"{file.name}: {error}; {CHANGED}") from error
        # One clip at a time: on a CPU a batch of them is slower per clip, since it leaves the processor's cache.
        values: npt.NDArray[np.float16] = self.front_end(torch.from_numpy(waveform)).half().numpy()
        return values


def _keep_memory() -> None:
    """Have the C library keep what it frees: a clip after the other needs the same few megabytes.

    glibc returns them to the kernel after every clip and takes them back page by page: a tenth of the time.
    """
    if hasattr(library := ctypes.CDLL(None), "mallopt"):  # glibc's
        trim_threshold, mmap_threshold = -1, -3  # malloc.h; the largest value that the second may have is 32 MiB
        library.mallopt(trim_threshold, 2**28)
        library.mallopt(mmap_threshold, 2**25)


@dataclass(frozen=True)
class Job:
    """A clip to compute: its file, the MD5 that names it, the checksum of its bytes, and its row in the array."""

    file: Path
    md5: str
    xxh3: str
    row: int


@dataclass(frozen=True)
class Target:
    """Where spectrograms go: the cache at this address, and the array, if there is one."""

    cache: str
    array: RowFile | None


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def compute(
    jobs: Sequence[Job], settings: SpectrogramSettings, target: Target, processes: int | None = None
) -> Iterator[int]:
    """Compute the jobs and put them where they go; yield how many are done, now and then.

    Who computes also writes: handing arrays from process to process costs a third of computing them.

    Args:
        processes: None takes one a core where there is work enough for it. The bits are the same for any number.
    Raises:
        DatasetError: a file is gone, broken or changed.
        CacheError: the cache takes no entries, and there is no array.
        ComputeError: one of the processes was killed.
    """
    if processes is None:
        processes = cores() if len(jobs) >= WORTH_PROCESSES else 1
    done = 0
    with workers(settings, target, processes) as work:
        try:
            for count in work(jobs[first : first + TOGETHER] for first in range(0, len(jobs), TOGETHER)):
                done += count
                yield done
        except BrokenProcessPool as error:
            raise ComputeError(
                f"one of {processes} processes that compute spectrograms was killed, probably because memory ran out; "
                "run it again with more of it: what is done stays in the cache"
            ) from error


@contextmanager
def workers(
    settings: SpectrogramSettings, target: Target, processes: int
) -> Iterator[Callable[[Iterable[Sequence[Job]]], Iterator[int]]]:
    """Within the block, what computes parts of the jobs and yields the number of clips in each, in order.

    One process is this one; more are started at the first part and stay to the end of the block.
    """
    with ExitStack() as stack:
        if processes == 1:
            stack.enter_context(_one_thread())
            yield partial(map, _Worker(settings, target))
        else:
            # spawn: a fork would copy the locks of whatever threads torch or kfp have started here.
            context = multiprocessing.get_context("spawn")
            pool = ProcessPoolExecutor(processes, context, initializer=_start, initargs=(settings, target))
            stack.callback(pool.shutdown, wait=True, cancel_futures=True)

            def work(parts: Iterable[Sequence[Job]]) -> Iterator[int]:
                with _ctrl_c_for_this_process_alone():  # the pool starts its processes as the parts come in
                    return pool.map(_work, parts)

            yield work


@contextmanager
def _ctrl_c_for_this_process_alone() -> Iterator[None]:
    """Processes started within the block never get a Ctrl-C, which reaches all of a terminal: this one ends them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Within the block torch uses one thread: a clip is too little work to share."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Worker:
    """Computes and writes, in one process."""

    def __init__(self, settings: SpectrogramSettings, target: Target) -> None:
        self.computer = Computer(settings)
        # Without an array to write to, what the cache does not take is lost.
        self.cache = SpectrogramCache(open_store(target.cache), settings, must_store=target.array is None)
        self.rows = target.array.open() if target.array else None

    def __call__(self, jobs: Sequence[Job]) -> int:
        for job in jobs:
            with defer_signals():
                values = self.computer(job.file, job.xxh3)
            self.cache.put(job.md5, values)
            if self.rows:
                self.rows[job.row] = values
        self.cache.flush()
        return len(jobs)


_worker: _Worker | None = None  # one a process of the pool, made by its initializer


def _start(settings: SpectrogramSettings, target: Target) -> None:
    global _worker
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)  # the processes are the parallelism; threads of each would only fight for the cores
    _worker = _Worker(settings, target)


def _end_with_parent() -> None:
    """A parent that was killed ends no workers, and they would wait for parts for good: notice that it is gone."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)  # no other thread is asked: there is nobody left to hand anything to


def _work(jobs: Sequence[Job]) -> int:
    if _worker is None:
        raise RuntimeError("the pool's initializer has not run")
    return _worker(jobs)
