"""The step spectrograms: write the spectrogram of every clip, from a cache where possible."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pandas as pd

from audiocnn.config import SpectrogramSettings
from audiocnn.data.clips import class_names, digest
from audiocnn.data.spectrogram_set import ARRAY, CLIPS, SPEC
from audiocnn.errors import AudioCNNError
from audiocnn.features import FRONT_END_VERSION
from components.spectrograms.compute import Job, Target, compute
from components.spectrograms.rows import RowFile
from mlops.artifacts import DatasetFolder
from mlops.outputs import check_output, output_folder
from mlops.runtime import sigterm_as_exit
from mlops.spectrogram_cache.entries import SpectrogramCache
from mlops.storage import open_store


class ShardError(AudioCNNError):
    """An invalid shard."""


@dataclass(frozen=True)
class Shard:
    """One of `count` equal parts of a data set's clips; `number` starts at 1."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse text such as "2/8"."""
        try:
            number, count = map(int, text.split("/"))
        except ValueError:
            number, count = 0, 0
        if not 1 <= number <= count:
            raise ShardError(f"invalid shard {text!r}; an example is 2/8, the second of eight shards")
        return cls(number, count)

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


@dataclass(frozen=True)
class Summary:
    """The result of a run: number of clips, and number of spectrograms that were not in the cache."""

    clips: int
    computed: int

    @property
    def statistics(self) -> dict[str, int]:
        return {"clips": self.clips, "computed": self.computed, "from cache": self.clips - self.computed}


@sigterm_as_exit()
def fill_cache(
    dataset: Path, settings: SpectrogramSettings, cache: str, shard: Shard, processes: int | None = None
) -> Summary:
    """Compute the spectrograms of one shard of the clips that are not yet in the cache.

    Raises:
        CacheError: the cache cannot be written. Other errors are those of `spectrograms`.
    """
    clips = DatasetFolder(dataset).clips().sort_values("md5").iloc[shard.number - 1 :: shard.count]
    cached = SpectrogramCache(open_store(cache), settings).get_many(clips["md5"])
    jobs = make_jobs(dataset, clips, [row for row, entry in enumerate(cached) if entry is None])
    compute(jobs, settings, Target(cache, None), processes)
    print(f"[spectrograms] shard {shard}: the cache contains all {len(clips)} clips", flush=True)
    return Summary(len(clips), len(jobs))


@sigterm_as_exit()
def spectrograms(
    dataset: Path, settings: SpectrogramSettings, output: Path, cache: str, processes: int | None = None
) -> Summary:
    """Write the spectrograms of all clips, from the cache where possible.

    Args:
        dataset: folder of the step ingest.
        output: folder to write (SpectrogramSet); it appears completely or not at all, and replaces an earlier one.
        cache: local folder or s3://bucket/prefix. If it cannot be written, that is reported and the run continues.
        processes: as for `compute`.
    Raises:
        ArtifactError, DatasetError: the data set is invalid, or a clip is missing or has changed.
        StorageError: the cache cannot be read.
        OutputError: `output` contains other files, or cannot be written.
    """
    check_output(output, SPEC, [dataset])
    folder = DatasetFolder(dataset)
    clips, record = folder.clips(), folder.record()
    clips_digest = digest(clips)
    spectrogram_cache = SpectrogramCache(open_store(cache), settings)
    with output_folder(output, SPEC) as part:
        array = RowFile.create(part / ARRAY, (len(clips), settings.n_mels, settings.frames))
        md5s = clips["md5"].tolist()
        jobs = make_jobs(dataset, clips, _copy_cached(spectrogram_cache, md5s, array))
        print(f"[spectrograms] {len(clips) - len(jobs)} of {len(clips)} clips are in the cache", flush=True)
        compute(jobs, settings, Target(cache, array), processes)
        spectrogram_cache.record_use(record.source, clips_digest, md5s)
        shutil.copyfile(folder.clip_table, part / CLIPS)
        spec = {
            "front_end": FRONT_END_VERSION,
            "settings": settings.to_dict(),
            "dataset": {"digest": clips_digest, "source": record.source, "origin": record.origin, "clips": len(clips)},
            "classes": list(class_names(clips)),
        }
        (part / SPEC).write_text(json.dumps(spec, indent=2) + "\n", encoding="utf-8")
    return Summary(len(clips), len(jobs))


def make_jobs(dataset: Path, clips: pd.DataFrame, rows: Sequence[int]) -> list[Job]:
    audio = DatasetFolder(dataset).audio
    names, md5s, xxh3s = (clips[column].tolist() for column in ("filename", "md5", "xxh3"))
    return [Job(audio / names[row], md5s[row], xxh3s[row], row) for row in rows]


def _copy_cached(spectrogram_cache: SpectrogramCache, md5s: list[str], array: RowFile) -> list[int]:
    """Copy cached spectrograms into the array; return the rows that are missing in the cache."""
    missing = []
    with array.open() as file:
        for row, entry in enumerate(spectrogram_cache.get_many(md5s)):
            if entry is None:
                missing.append(row)
            else:
                array.write(file, row, entry)
    return missing
