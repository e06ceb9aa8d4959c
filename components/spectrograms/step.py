"""The work of the step spectrograms."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd

from audiocnn.atomic import atomic_folder
from audiocnn.dataset import DatasetError, class_names, digest, read_clips
from audiocnn.errors import AudioCNNError
from audiocnn.params import as_dict
from audiocnn.settings import SpectrogramSettings
from audiocnn.spectrogram import FRONT_END
from components.spectrograms.cache import SpectrogramCache
from components.spectrograms.compute import Spectrogram, compute
from components.spectrograms.rows import open_rows


class ShardError(AudioCNNError):
    """A share of the work that is none."""


@dataclass(frozen=True)
class Shard:
    """One of `of` equal shares of a data set's clips; `number` counts from 1."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """From "2/8".

        Raises:
            ShardError: it is not of that form, or the number lies beyond the shares.
        """
        try:
            number, of = map(int, text.split("/"))
        except ValueError:
            number, of = 0, 0
        if not 1 <= number <= of:
            raise ShardError(f"shard {text!r}: expected a share such as 2/8, the second of eight")
        return cls(number, of)

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


@dataclass(frozen=True)
class Summary:
    """What one run did: clips in its charge, and how many spectrograms were computed since the cache lacked them."""

    clips: int
    computed: int

    @property
    def statistics(self) -> dict[str, int]:
        """The figures by the names that people read."""
        return {"clips": self.clips, "computed": self.computed, "from cache": self.clips - self.computed}


def fill(dataset: Path, settings: SpectrogramSettings, cache: Path, shard: Shard) -> Summary:
    """Compute into the cache what it lacks of one share of the clips, so that several machines share the work.

    Raises:
        DatasetError: as `spectrograms`.
    """
    clips = read_clips(dataset / "clips.csv").sort_values("md5").iloc[shard.number - 1 :: shard.of]
    store = SpectrogramCache(cache, settings)
    missing = clips[np.array([store.get(md5) is None for md5 in clips["md5"]], bool)]
    computed = sum(1 for _ in _fill(missing, dataset, settings, store))
    print(f"[spectrograms] shard {shard}: {len(clips)} clips are in the cache", flush=True)
    return Summary(len(clips), computed)


def spectrograms(
    dataset: Path, settings: SpectrogramSettings, output: Path, cache: Path, processes: int | None = None
) -> Summary:
    """Write spectrograms.npy, clips.csv and spec.json for every clip of `dataset`, from the cache where it has them.

    Args:
        dataset: a folder of the step ingest.
        output: appears whole or not at all.
        cache: root of the content-addressed store; shared by runs and processes.
        processes: as for `compute`.
    Raises:
        DatasetError: `dataset` is none, or a clip of it cannot be read any more.
    """
    clips = read_clips(dataset / "clips.csv")
    store = SpectrogramCache(cache, settings)
    shape = (len(clips), settings.n_mels, settings.frames)
    with atomic_folder(output) as part:
        with open_rows(part / "spectrograms.npy", shape) as rows:
            missing = []
            for row, md5 in enumerate(clips["md5"]):
                entry = store.get(md5)
                if entry is None:
                    missing.append(row)
                else:
                    rows[row] = entry
            print(f"[spectrograms] {len(clips) - len(missing)} of {len(clips)} clips are in the cache", flush=True)
            for row, entry in _fill(clips.iloc[missing], dataset, settings, store, processes):
                rows[row] = entry
        shutil.copyfile(dataset / "clips.csv", part / "clips.csv")
        spec = {
            "front_end": FRONT_END,
            "settings": as_dict(settings),
            "dataset": {"digest": digest(clips), "source": _source(dataset), "clips": len(clips)},
            "classes": list(class_names(clips)),
        }
        (part / "spec.json").write_text(json.dumps(spec, indent=2) + "\n", encoding="utf-8")
    return Summary(len(clips), len(missing))


def _fill(
    clips: pd.DataFrame,
    dataset: Path,
    settings: SpectrogramSettings,
    store: SpectrogramCache,
    processes: int | None = None,
) -> Iterator[tuple[int, Spectrogram]]:
    """Compute and store; yield each with the label of its row in `clips`."""
    files = [dataset / "audio" / name for name in clips["filename"]]
    computed = compute(files, settings, processes)
    for done, (row, md5, entry) in enumerate(zip(clips.index, clips["md5"], computed, strict=True), 1):
        store.put(md5, entry)
        yield row, entry
        if done % max(1, len(files) // 10) == 0 or done == len(files):
            print(f"[spectrograms] computed {done}/{len(files)}", flush=True)


def _source(dataset: Path) -> str:
    """Where ingest says the data came from."""
    try:
        described: dict[str, str] = json.loads((dataset / "dataset.json").read_text(encoding="utf-8"))
        return str(described["source"])
    except (OSError, ValueError, KeyError) as error:
        raise DatasetError(f"{dataset}: dataset.json is missing or broken ({error}); run ingest again") from error
