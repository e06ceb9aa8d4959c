"""Each file on its own: is it sound, what kind of sound, and what speaks against it."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import xxhash

from audiocnn import audio
from components.ingest.findings import Findings
from components.ingest.progress import report_progress
from components.ingest.settings import IngestSettings
from components.ingest.sources.kind import AUDIO


@dataclass(frozen=True)
class Facts:
    """What decoding tells of a clip. `sound` names its samples; peak and rms are shares of full scale.

    `md5` names the file's bytes; `xxh3` (128 bit) is there to hold them against later, sixty times as fast.
    """

    md5: str
    xxh3: str
    rate: int
    channels: int
    frames: int
    sound: str
    peak: float
    rms: float


@dataclass(frozen=True)
class Inspection:
    """One file's facts, None where it could not be decoded, and its problems as (kind of finding, detail)."""

    facts: Facts | None
    problems: list[tuple[str, str]]


def inspect_clips(
    rows: pd.DataFrame, files: Mapping[str, Path], settings: IngestSettings, findings: Findings
) -> pd.DataFrame:
    """Decode the files of `rows` and note what is wrong.

    Args:
        rows: of read_table.
        files: what there is, by name.
    Returns:
        the rows whose files could be decoded and are not quarantined, with the columns of Facts.
    """
    kept, facts = [], []
    for row, inspection in enumerate(_inspect_all([files.get(name) for name in rows["filename"]], settings)):
        name = rows["filename"].iloc[row]
        for kind, detail in inspection.problems:
            findings.add(kind, name, detail, [name])
        if inspection.facts and name not in findings.quarantined:
            kept.append(row)
            facts.append(inspection.facts)
    columns = pd.DataFrame(facts, columns=list(Facts.__annotations__))
    return pd.concat([rows.iloc[kept].reset_index(drop=True), columns], axis=1)


def inspect(file: Path | None, settings: IngestSettings) -> Inspection:
    """Decode one file and hold it against the settings."""
    if file is None or not file.is_file():  # what is there and is no file: reading a pipe would wait for ever
        return Inspection(None, [("missing", f"there is no such file in {AUDIO}/")])
    try:
        content = file.read_bytes()
        sound = audio.decode(content, settings.max_seconds)
    except audio.AudioError as error:
        return Inspection(None, [(error.reason, str(error))])
    except OSError as error:
        return Inspection(None, [("missing", f"cannot be read: {error.strerror}")])
    problems = []
    try:
        audio.check(sound, settings.min_seconds)
    except audio.AudioError as error:
        problems.append((error.reason, str(error)))
    if (share := sound.clipped_share) > settings.max_clipped_share:
        problems.append(("clipped", f"{100 * share:.1f} % of the samples stand at full scale"))
    return Inspection(_facts(content, sound), problems)


def _inspect_all(files: Sequence[Path | None], settings: IngestSettings) -> Iterator[Inspection]:
    """In the order of the files. Threads suffice: libsndfile, numpy and hashlib let go of the interpreter's lock."""
    with ThreadPoolExecutor() as pool:
        try:
            results = pool.map(lambda file: inspect(file, settings), files)
            for done, result in enumerate(results, 1):
                report_progress("checked", done, len(files))
                yield result
        finally:
            pool.shutdown(cancel_futures=True)  # after Ctrl-C nobody waits for the other files


def _facts(content: bytes, sound: audio.Sound) -> Facts:
    samples = hashlib.blake2b(
        np.ascontiguousarray(sound.samples).data, digest_size=16, salt=sound.rate.to_bytes(16, "big")
    )
    return Facts(
        md5=hashlib.md5(content, usedforsecurity=False).hexdigest(),
        xxh3=xxhash.xxh3_128_hexdigest(content),
        rate=sound.rate,
        channels=sound.samples.shape[1],
        frames=len(sound.samples),
        sound=samples.hexdigest(),
        peak=sound.peak,
        rms=float(np.sqrt(np.mean(np.square(sound.samples, dtype=np.float64)))),
    )
