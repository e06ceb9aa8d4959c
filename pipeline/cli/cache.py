"""What people ask of the spectrogram cache: how large it is, who uses it, and to bound it."""

import re
from collections.abc import Collection
from datetime import UTC, datetime
from decimal import Decimal

from rich.filesize import decimal
from rich.table import Table

from audiocnn.errors import AudioCNNError
from mlops.spectrogram_cache import eviction as gc

UNITS = {"B": 1} | {
    f"{letter}{i}B": base**power for power, letter in enumerate("KMGT", 1) for i, base in (("", 1000), ("I", 1024))
}


class SizeError(AudioCNNError):
    """A size that is none."""


def size(text: str) -> int:
    """Bytes, from "10GB", "500 MB", "2GiB" (of 1024 each) or "0".

    Raises:
        SizeError: it is of no such form.
    """
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*((?:[KMGT]I?)?)B?\s*", text, re.IGNORECASE | re.ASCII)
    if match is None:
        raise SizeError(f"{text!r} is no size; write it like 10GB, 500MB, 2GiB or 0")
    return int(Decimal(match[1]) * UNITS[f"{match[2].upper()}B"])


def status(root: str) -> Table:
    """The cache's data sets, the one used last on top, and its size."""
    found = gc.contents(gc.open_cache(root))
    table = Table(title=f"{root}: {len(found.entries):,} spectrograms, {decimal(found.size)}")
    for column in ("data set", "digest", "front end", "spectrograms", "last used (UTC)"):
        table.add_column(column, justify="right" if column == "spectrograms" else "left")
    for place, manifest in sorted(found.manifests.sound.items(), key=lambda pair: -pair[1].used):
        used = datetime.fromtimestamp(manifest.used, UTC).strftime("%Y-%m-%d %H:%M")
        front_end = place.rpartition("-")[2].removesuffix(".json")[:8]
        table.add_row(manifest.name, manifest.digest[:12], front_end, f"{len(manifest.entries):,}", used)
    for place, why in found.manifests.unreadable.items():
        table.add_row(f"unreadable: {place}", "", "", "", why)
    return table


def collect(root: str, max_size: str, keep: Collection[str], dry_run: bool) -> str:
    """Bound the cache; what was done, in a sentence."""
    entries, freed = gc.collect(gc.open_cache(root), size(max_size), keep, dry_run)
    return f"{'Would remove' if dry_run else 'Removed'} {entries:,} spectrograms, {decimal(freed)}"
