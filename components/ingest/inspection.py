"""Checks of each audio file by itself."""

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
from components.ingest.settings import IngestSettings
from components.ingest.sources.layout import AUDIO
from mlops.progress import report_progress


@dataclass(frozen=True)
class Facts:
    """Properties of a clip.

    Attributes:
        md5: digest of the file.
        xxh3: 128-bit XXH3 digest of the file, for later verification; about sixty times as fast as MD5.
        rate: sample rate in Hz.
        channels, frames: their number.
        samples_hash: digest of the decoded samples and the rate.
        peak, rms: relative to full scale.
    """

    md5: str
    xxh3: str
    rate: int
    channels: int
    frames: int
    samples_hash: str
    peak: float
    rms: float


@dataclass(frozen=True)
class Inspection:
    """The result of checking one file.

    Attributes:
        facts: None if the file cannot be decoded.
        problems: pairs of a kind of finding and a detail.
    """

    facts: Facts | None
    problems: list[tuple[str, str]]


def inspect_clips(
    rows: pd.DataFrame, files: Mapping[str, Path], settings: IngestSettings, findings: Findings
) -> pd.DataFrame:
    """Decode and check files.

    Args:
        rows: the rows of `read_table`.
        files: the existing files, by name.
        settings: the limits.
        findings: problems are added here.
    Returns:
        the rows whose files can be decoded and are not quarantined, with the columns of Facts.
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
    """Decode and check one file; None means that the file is missing."""
    if file is None or not file.is_file():  # reading a pipe would block
        return Inspection(None, [("missing", f"the file is not in {AUDIO}/")])
    try:
        content = file.read_bytes()
        sound = audio.decode(content, settings.max_seconds)
    except audio.AudioError as error:
        return Inspection(None, [(error.reason, str(error))])
    except OSError as error:
        return Inspection(None, [("missing", f"the file cannot be read: {error.strerror}")])
    problems = []
    try:
        audio.check(sound, settings.min_seconds)
    except audio.AudioError as error:
        problems.append((error.reason, str(error)))
    if (share := sound.clipped_share) > settings.max_clipped_share:
        problems.append(("clipped", f"{100 * share:.1f} % of the samples are at full scale"))
    return Inspection(_facts(content, sound), problems)


def _inspect_all(files: Sequence[Path | None], settings: IngestSettings) -> Iterator[Inspection]:
    """Yield the results in order. Threads are sufficient: libsndfile, numpy and hashlib release the GIL."""
    with ThreadPoolExecutor() as pool:
        try:
            results = pool.map(lambda file: inspect(file, settings), files)
            for done, result in enumerate(results, 1):
                report_progress("ingest", "checked", done, len(files))
                yield result
        finally:
            pool.shutdown(cancel_futures=True)  # after Ctrl-C, do not wait for the other files


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
        samples_hash=samples.hexdigest(),
        peak=sound.peak,
        rms=float(np.sqrt(np.mean(np.square(sound.samples, dtype=np.float64)))),
    )
