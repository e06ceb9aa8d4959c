"""Commands for the spectrogram cache: show its data sets and size; limit its size."""

from collections.abc import Collection
from datetime import UTC, datetime

from pydantic import ByteSize, TypeAdapter, ValidationError
from rich.filesize import decimal
from rich.table import Table

from audiocnn.errors import AudioCNNError
from mlops.spectrogram_cache import eviction
from mlops.storage import open_store


class SizeError(AudioCNNError):
    """An invalid size."""


def parse_size(text: str) -> int:
    """Return bytes, from text such as "10GB", "500 MB", "2GiB" or "0".

    Raises:
        SizeError: the text is not a size.
    """
    try:
        return TypeAdapter(ByteSize).validate_python(text)
    except ValidationError:
        raise SizeError(f"--max-size: {text!r} is not a size; examples are 10GB, 500MB, 2GiB and 0") from None


def status(root: str) -> Table:
    """Return a table of the data sets that use the cache, the latest first."""
    contents = eviction.read_contents(open_store(root))
    table = Table(title=f"{root}: {len(contents.entries):,} spectrograms, {decimal(contents.size)}")
    for column in ("data set", "digest", "front end", "spectrograms", "last used (UTC)"):
        table.add_column(column, justify="right" if column == "spectrograms" else "left")
    for file, manifest in sorted(contents.manifests.items(), key=lambda pair: -pair[1].used):
        used = datetime.fromtimestamp(manifest.used, UTC).strftime("%Y-%m-%d %H:%M")
        front_end = file.rpartition("-")[2][:8]
        table.add_row(manifest.name, manifest.digest[:12], front_end, f"{len(manifest.entries):,}", used)
    for file, error in contents.unreadable.items():
        table.add_row(f"unreadable: {file}", "", "", "", error)
    return table


def collect(root: str, max_size: str, keep: Collection[str], dry_run: bool) -> str:
    """Limit the size of the cache and return a summary."""
    entries, freed = eviction.collect(open_store(root), parse_size(max_size), keep, dry_run)
    return f"{'Would remove' if dry_run else 'Removed'} {entries:,} spectrograms, {decimal(freed)}"
