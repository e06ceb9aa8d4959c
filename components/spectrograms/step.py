"""The work of the step spectrograms."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pandas as pd

from audiocnn.config import SpectrogramSettings
from audiocnn.data.clips import DatasetError, class_names, digest, read_clips
from audiocnn.errors import AudioCNNError
from audiocnn.features import FRONT_END_VERSION
from components.spectrograms.compute import Job, Target, compute
from components.spectrograms.rows import RowFile
from mlops.outputs import check_output, output_folder
from mlops.runtime import sigterm_as_exit
from mlops.spectrogram_cache.entries import SpectrogramCache
from mlops.storage import open_store

MARKER = "spec.json"  # what shows that a folder is an output of this step


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


@sigterm_as_exit()
def fill(
    dataset: Path, settings: SpectrogramSettings, cache: str, shard: Shard, processes: int | None = None
) -> Summary:
    """Compute into the cache what it lacks of one share of the clips, so that several machines share the work.

    Raises:
        DatasetError, StorageError: as `spectrograms`.
        CacheError: the cache takes no entries.
    """
    clips = read_clips(dataset / "clips.csv").sort_values("md5").iloc[shard.number - 1 :: shard.of]
    store = SpectrogramCache(open_store(cache), settings)
    jobs = jobs_of(dataset, clips, [row for row, entry in enumerate(store.get_many(clips["md5"])) if entry is None])
    _compute(jobs, settings, Target(cache, None), processes)
    print(f"[spectrograms] shard {shard}: {len(clips)} clips are in the cache", flush=True)
    return Summary(len(clips), len(jobs))


@sigterm_as_exit()
def spectrograms(
    dataset: Path, settings: SpectrogramSettings, output: Path, cache: str, processes: int | None = None
) -> Summary:
    """Write spectrograms.npy, clips.csv and spec.json for every clip of `dataset`, from the cache where it has them.

    Args:
        dataset: a folder of the step ingest.
        output: appears whole or not at all, in place of an earlier one.
        cache: a folder's path or s3://bucket/prefix; shared by runs, processes and machines.
        processes: as for `compute`.
    Raises:
        DatasetError: `dataset` is none, or a clip of it changed or cannot be read any more.
        StorageError: a cache on S3 cannot be read. One that cannot be written is told, and done without.
        OutputError: `output` holds something else, which would be lost.
    """
    check_output(output, MARKER, [dataset])
    clips = read_clips(dataset / "clips.csv")
    name, described = digest(clips), _described(dataset)
    store = SpectrogramCache(open_store(cache), settings)
    with output_folder(output, MARKER) as part:
        array = RowFile.create(part / "spectrograms.npy", (len(clips), settings.n_mels, settings.frames))
        md5s = clips["md5"].tolist()
        jobs = jobs_of(dataset, clips, _copy(store, md5s, array))
        print(f"[spectrograms] {len(clips) - len(jobs)} of {len(clips)} clips are in the cache", flush=True)
        _compute(jobs, settings, Target(cache, array), processes)
        store.note(described["source"], name, md5s)
        shutil.copyfile(dataset / "clips.csv", part / "clips.csv")
        spec = {
            "front_end": FRONT_END_VERSION,
            "settings": settings.to_dict(),
            "dataset": {"digest": name, **described, "clips": len(clips)},
            "classes": list(class_names(clips)),
        }
        (part / MARKER).write_text(json.dumps(spec, indent=2) + "\n", encoding="utf-8")
    return Summary(len(clips), len(jobs))


def jobs_of(dataset: Path, clips: pd.DataFrame, rows: Sequence[int]) -> list[Job]:
    """The clips in these rows of a table."""
    audio = dataset / "audio"
    names, md5s, xxh3s = (clips[column].tolist() for column in ("filename", "md5", "xxh3"))
    return [Job(audio / names[row], md5s[row], xxh3s[row], row) for row in rows]


def _copy(store: SpectrogramCache, md5s: list[str], array: RowFile) -> list[int]:
    """Copy what the cache has into the array; the rows that it lacks."""

    missing = []
    with array.open() as rows:
        for row, entry in enumerate(store.get_many(md5s)):
            if entry is None:
                missing.append(row)
            else:
                rows[row] = entry
    return missing


def _compute(jobs: list[Job], settings: SpectrogramSettings, target: Target, processes: int | None = None) -> None:
    """Compute, and say how far it is at every tenth."""
    told = 0
    for done in compute(jobs, settings, target, processes):
        if done * 10 // len(jobs) > told:
            told = done * 10 // len(jobs)
            print(f"[spectrograms] computed {done}/{len(jobs)}", flush=True)


def _described(dataset: Path) -> dict[str, str]:
    """Where ingest says the data came from: `source` in short, and `origin`, from which it can be had again."""
    try:
        found = json.loads((dataset / "dataset.json").read_text(encoding="utf-8"))
        return {"source": str(found["source"]), "origin": str(found.get("origin", ""))}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(f"{dataset}: dataset.json is missing or broken ({error}); run ingest again") from error
