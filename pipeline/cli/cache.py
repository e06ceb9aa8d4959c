"""Commands for the spectrogram cache: show its data sets and size; limit its size."""

from datetime import UTC, datetime
from typing import Annotated

import typer
from pydantic import ByteSize, TypeAdapter, ValidationError

from audiocnn.errors import AudioCNNError
from mlops.spectrogram_cache import DEFAULT_CACHE

CacheOption = Annotated[str, typer.Option("--cache", help="A folder, or s3://bucket/prefix.")]


class SizeError(AudioCNNError):
    """An invalid size."""


def status(root: CacheOption = DEFAULT_CACHE) -> None:
    """Show the size of the cache, the data sets that use it, and when they last did."""
    from rich.console import Console
    from rich.filesize import decimal
    from rich.table import Table

    from mlops.spectrogram_cache import eviction
    from mlops.storage import open_store

    contents = eviction.read_contents(open_store(root))
    cached = {entry.name for entry in contents.entries}
    table = Table(title=f"{root}: {len(cached):,} spectrograms, {decimal(contents.size)}", title_justify="left")
    for column in ("data set", "digest", "front end", "spectrograms", "last used (UTC)"):
        table.add_column(column, justify="right" if column == "spectrograms" else "left")
    for file, manifest in sorted(contents.manifests.items(), key=lambda pair: -pair[1].used):
        used = datetime.fromtimestamp(manifest.used, UTC).strftime("%Y-%m-%d %H:%M")
        front_end = file.rpartition("-")[2][:8]
        present, total = len(cached.intersection(manifest.entries)), len(manifest.entries)
        count = f"{total:,}" if present == total else f"{present:,} of {total:,}"
        table.add_row(manifest.name, manifest.digest[:12], front_end, count, used)
    Console().print(table)


def gc(
    max_size: Annotated[str, typer.Option(help="Size limit, for example 10GB.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be removed.")] = False,
    root: CacheOption = DEFAULT_CACHE,
) -> None:
    """Remove the least recently used spectrograms until the cache is no larger than --max-size."""
    from rich.filesize import decimal

    from mlops.spectrogram_cache import eviction
    from mlops.storage import open_store

    count, freed = eviction.collect(open_store(root), parse_size(max_size), dry_run)
    typer.echo(f"{'Would remove' if dry_run else 'Removed'} {count:,} spectrograms, {decimal(freed)}")


def parse_size(text: str) -> int:
    """Return bytes, from text such as "10GB", "500 MB", "2GiB" or "0"."""
    try:
        return TypeAdapter(ByteSize).validate_python(text)
    except ValidationError:
        raise SizeError(f"--max-size: {text!r} is not a size; examples are 10GB, 500MB, 2GiB and 0") from None
