"""Files -> spectrograms, on as many processes as there are cores."""

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from audiocnn.audio import AudioError, load
from audiocnn.dataset import DatasetError
from audiocnn.settings import SpectrogramSettings
from audiocnn.spectrogram import LogMel

Spectrogram = npt.NDArray[np.float16]
WORTH_PROCESSES = 500  # clips; a process that imports torch costs about as much as computing this many


class Computer:
    """The front end, applied to one file after the other."""

    def __init__(self, settings: SpectrogramSettings) -> None:
        self.settings = settings
        self.front_end = LogMel(settings)

    def __call__(self, file: Path) -> Spectrogram:
        """The clip's spectrogram, float16 (n_mels, frames), in dB.

        Raises:
            DatasetError: the file is gone or broken.
        """
        try:
            waveform = load(file, self.settings)
        except (AudioError, OSError) as error:
            raise DatasetError(f"{file.name}: {error}; the data set changed after ingest: run ingest again") from error
        # One clip at a time: on a CPU a batch of them is slower per clip, since it leaves the processor's cache.
        values: Spectrogram = self.front_end(torch.from_numpy(waveform)).half().numpy()
        return values


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def compute(files: list[Path], settings: SpectrogramSettings, processes: int | None = None) -> Iterator[Spectrogram]:
    """Spectrograms of the files, in their order; the same bits for any number of processes.

    Args:
        processes: None takes one a core where there is work enough for it.
    Raises:
        DatasetError: a file is gone or broken.
    """
    if processes is None:
        processes = cores() if len(files) >= WORTH_PROCESSES else 1
    if processes == 1:
        with _one_thread():
            yield from map(Computer(settings), files)
        return
    # spawn: a fork would copy the locks of whatever threads torch or kfp have started here.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, initializer=_start, initargs=(settings,)) as pool:
        try:
            yield from pool.map(_work, files, chunksize=8)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Within the block torch uses one thread: a clip is too little work to share."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


_computer: Computer | None = None  # one a process of the pool, made by its initializer


def _start(settings: SpectrogramSettings) -> None:
    global _computer
    torch.set_num_threads(1)  # the processes are the parallelism; threads of each would only fight for the cores
    _computer = Computer(settings)


def _work(file: Path) -> Spectrogram:
    if _computer is None:
        raise RuntimeError("the pool's initializer has not run")
    return _computer(file)
