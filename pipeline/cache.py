"""What people ask of the spectrogram cache: how large it is, who uses it, and to bound it."""

import re
from collections.abc import Collection
from datetime import UTC, datetime

from rich.filesize import decimal
from rich.table import Table

from audiocnn.errors import AudioCNNError
from components.spectrograms import gc
from components.stores import open_store

UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


class SizeError(AudioCNNError):
    """A size that is none."""


def size(text: str) -> int:
    """Bytes, from "10GB", "500 MB" or "0".

    Raises:
        SizeError: it is of no such form.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kKmMgGtT]?[bB]?)\s*", text)
    if match is None:
        raise SizeError(f"{text!r} is no size; write it like 10GB, 500MB or 0")
    unit = match[2].upper()
    return int(float(match[1]) * UNITS[unit if unit in UNITS else f"{unit}B"])


def status(root: str) -> Table:
    """The cache's data sets, the one used last on top, and its size."""
    found = gc.contents(open_store(root))
    table = Table(title=f"{root}: {len(found.entries):,} spectrograms, {decimal(found.size)}")
    for column in ("data set", "digest", "front end", "spectrograms", "last used (UTC)"):
        table.add_column(column, justify="right" if column == "spectrograms" else "left")
    for place, manifest in sorted(found.manifests.items(), key=lambda pair: -pair[1].used):
        used = datetime.fromtimestamp(manifest.used, UTC).strftime("%Y-%m-%d %H:%M")
        front_end = place.rpartition("-")[2].removesuffix(".json")[:8]
        table.add_row(manifest.name, manifest.digest[:12], front_end, f"{len(manifest.entries):,}", used)
    return table


def collect(root: str, max_size: str, keep: Collection[str], dry_run: bool) -> str:
    """Bound the cache; what was done, in a sentence."""
    entries, freed = gc.collect(open_store(root), size(max_size), keep, dry_run)
    return f"{'Would remove' if dry_run else 'Removed'} {entries:,} spectrograms, {decimal(freed)}"
