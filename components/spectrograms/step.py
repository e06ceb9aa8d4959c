"""The work of the step spectrograms."""

import json
import multiprocessing
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from audiocnn.atomic import atomic_folder
from audiocnn.audio import AudioError, load
from audiocnn.dataset import DatasetError, class_names, digest, read_clips
from audiocnn.params import as_dict
from audiocnn.settings import SpectrogramSettings
from audiocnn.spectrogram import FRONT_END, LogMel
from components.spectrograms.cache import SpectrogramCache

WORTH_PROCESSES = 100  # clips; starting workers that import torch costs about as much as computing this many


@dataclass(frozen=True)
class Summary:
    """What one run did: clips in the set, and how many spectrograms were computed since the cache lacked them."""

    clips: int
    computed: int


def spectrograms(dataset: Path, settings: SpectrogramSettings, output: Path, cache: Path) -> Summary:
    """Write spectrograms.npy, clips.csv and spec.json for every clip of `dataset`, from the cache where it has them.

    Args:
        dataset: a folder of the step ingest.
        output: appears whole or not at all.
        cache: root of the content-addressed store; shared by runs and processes.
    Raises:
        DatasetError: `dataset` is none, or a clip of it cannot be read any more.
    """
    clips = read_clips(dataset / "clips.csv")
    store = SpectrogramCache(cache, settings)
    with atomic_folder(output) as part:
        shape = (len(clips), settings.n_mels, settings.frames)
        array = np.lib.format.open_memmap(part / "spectrograms.npy", mode="w+", dtype=np.float16, shape=shape)
        missing = []
        for row, md5 in enumerate(clips["md5"]):
            entry = store.get(md5)
            if entry is None:
                missing.append(row)
            else:
                array[row] = entry
        print(f"[spectrograms] {len(clips) - len(missing)} of {len(clips)} clips are in the cache", flush=True)
        files = [dataset / "audio" / clips["filename"].iat[row] for row in missing]
        for done, (row, entry) in enumerate(zip(missing, _compute(files, settings), strict=True), 1):
            array[row] = entry
            store.put(clips["md5"].iat[row], entry)
            if done % max(1, len(missing) // 10) == 0 or done == len(missing):
                print(f"[spectrograms] computed {done}/{len(missing)}", flush=True)
        array.flush()
        shutil.copyfile(dataset / "clips.csv", part / "clips.csv")
        spec = {
            "front_end": FRONT_END,
            "settings": as_dict(settings),
            "dataset": {"digest": digest(clips), "source": _source(dataset), "clips": len(clips)},
            "classes": list(class_names(clips)),
        }
        (part / "spec.json").write_text(json.dumps(spec, indent=2) + "\n", encoding="utf-8")
    return Summary(len(clips), len(missing))


def _compute(files: list[Path], settings: SpectrogramSettings) -> Iterator[npt.NDArray[np.float16]]:
    """Spectrograms of the files, in order; on all cores where that pays."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if len(files) < WORTH_PROCESSES or cores == 1:
        worker = _Worker(settings)
        yield from map(worker, files)
        return
    # spawn: a fork would copy the locks of whatever threads torch or kfp have started here.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(cores, context, initializer=_start_worker, initargs=(settings,)) as pool:
        try:
            yield from pool.map(_work, files, chunksize=8)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


class _Worker:
    def __init__(self, settings: SpectrogramSettings) -> None:
        self.settings = settings
        self.front_end = LogMel(settings)

    def __call__(self, file: Path) -> npt.NDArray[np.float16]:
        """The clip's spectrogram as float16 (n_mels, frames)."""
        try:
            waveform = load(file, self.settings)
        except (AudioError, OSError) as error:
            raise DatasetError(f"{file.name}: {error}; the data set changed after ingest: run ingest again") from error
        values: npt.NDArray[np.float16] = self.front_end(torch.from_numpy(waveform)).half().numpy()
        return values


_worker: _Worker | None = None  # one a process of the pool, made by its initializer


def _start_worker(settings: SpectrogramSettings) -> None:
    global _worker
    torch.set_num_threads(1)  # the processes are the parallelism; threads of each would only fight for the cores
    _worker = _Worker(settings)


def _work(file: Path) -> npt.NDArray[np.float16]:
    if _worker is None:
        raise RuntimeError("the pool's initializer has not run")
    return _worker(file)


def _source(dataset: Path) -> str:
    """Where ingest says the data came from."""
    try:
        described: dict[str, str] = json.loads((dataset / "dataset.json").read_text(encoding="utf-8"))
        return str(described["source"])
    except (OSError, ValueError, KeyError) as error:
        raise DatasetError(f"{dataset}: dataset.json is missing or broken ({error}); run ingest again") from error
