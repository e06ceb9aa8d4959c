"""Checks of each audio file by itself."""

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xxhash

from audiocnn import audio
from audiocnn.config import SpectrogramSettings
from audiocnn.errors import AudioError
from components.ingest.findings import Findings
from components.ingest.sources.layout import AUDIO
from mlops.progress import report_progress

# Of a clip: digests of the file, its sample rate in Hz, sizes, a digest of the samples, and levels relative to full
# scale. XXH3 is about sixty times as fast as MD5; the step spectrograms verifies files with it.
FACTS = ("md5", "xxh3", "rate", "channels", "frames", "samples_hash", "peak", "rms")

# Clips in memory at the same time, on a machine with any number of cores: 10 minutes of 48 kHz stereo take 0.8 GB.
THREADS = 4


def inspect_clips(
    rows: pd.DataFrame,
    files: Mapping[str, Path],
    front_end: SpectrogramSettings,
    max_clipped_share: float,
    findings: Findings,
) -> pd.DataFrame:
    """Decode and check files; problems are added to `findings`.

    Args:
        rows: the rows of `read_table`.
        files: the existing files, by name.
        front_end: determines what the network is given of a clip.
    Returns:
        the rows whose files can be decoded, with the columns FACTS.
    """

    def inspect(name: str) -> dict[str, Any] | None:
        return _inspect(name, files.get(name), front_end, max_clipped_share, findings)

    with ThreadPoolExecutor(THREADS) as pool:  # not processes: libsndfile, numpy and hashlib release the GIL
        try:
            facts = []
            for fact in pool.map(inspect, rows["filename"]):
                facts.append(fact)
                report_progress("ingest", "checked", len(facts), len(rows))
        finally:
            pool.shutdown(cancel_futures=True)  # after Ctrl-C, do not wait for the other files
    decoded = rows.iloc[[row for row, fact in enumerate(facts) if fact]].reset_index(drop=True)
    return pd.concat([decoded, pd.DataFrame([fact for fact in facts if fact], columns=list(FACTS))], axis=1)


def _inspect(
    name: str, file: Path | None, front_end: SpectrogramSettings, max_clipped_share: float, findings: Findings
) -> dict[str, Any] | None:
    """Decode and check one file, None if it is missing; return its FACTS, or None if it cannot be decoded."""

    def add(kind: str, detail: str) -> None:
        findings.add(kind, name, detail, [name])

    if file is None or not file.is_file():  # reading a pipe would block
        add("missing", f"the file is not in {AUDIO}/")
        return None
    try:
        content = file.read_bytes()
        sound = audio.decode(content)
    except AudioError as error:
        add(error.reason, str(error))
        return None
    except OSError as error:
        add("missing", f"the file cannot be read: {error.strerror}")
        return None
    try:
        audio.checked_waveform(sound, front_end)
    except AudioError as error:
        add(error.reason, str(error))
    if (share := sound.clipped_share) > max_clipped_share:
        add("clipped", f"{100 * share:.1f} % of the samples are at full scale")
    return {
        "md5": hashlib.md5(content, usedforsecurity=False).hexdigest(),
        "xxh3": xxhash.xxh3_128_hexdigest(content),
        "rate": sound.rate,
        "channels": sound.samples.shape[1],
        "frames": len(sound.samples),
        "samples_hash": xxhash.xxh3_128_hexdigest(np.ascontiguousarray(sound.samples).data, seed=sound.rate),
        "peak": sound.peak,
        "rms": float(np.sqrt(np.mean(np.square(sound.samples, dtype=np.float64)))),
    }
