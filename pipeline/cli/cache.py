"""Commands for the spectrogram cache: show its data sets and size; limit its size."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import ByteSize, TypeAdapter, ValidationError

from audiocnn.errors import AudioCNNError
from mlops.spectrogram_cache import DEFAULT_CACHE
from pipeline.cli.options import JsonOption, print_json

if TYPE_CHECKING:
    from mlops.spectrogram_cache.eviction import CacheContents

CacheOption = Annotated[str, typer.Option("--cache", help="A folder, or s3://bucket/prefix.")]


class SizeError(AudioCNNError):
    """An invalid size."""


def status(root: CacheOption = DEFAULT_CACHE, json_: JsonOption = False) -> None:
    """Show the size of the cache, the data sets that use it, and when they last did."""
    from mlops.spectrogram_cache import eviction
    from mlops.storage import open_store

    contents = eviction.read_contents(open_store(root))
    data_sets = _data_sets(contents)
    if json_:
        count = len(contents.entries)
        print_json({"cache": root, "bytes": contents.size, "spectrograms": count, "data_sets": data_sets})
        return
    _show(root, contents, data_sets)


def _data_sets(contents: "CacheContents") -> list[dict[str, Any]]:
    """Return a record of each data set that uses the cache, the one that was used last first."""
    cached = {entry.name for entry in contents.entries}
    return [
        {
            "data_set": manifest.name,
            "digest": manifest.digest,
            "front_end": file.rpartition("-")[2][:8],
            "spectrograms": len(manifest.entries),
            "cached": len(cached.intersection(manifest.entries)),
            "last_used": datetime.fromtimestamp(manifest.used, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        for file, manifest in sorted(contents.manifests.items(), key=lambda pair: -pair[1].used)
    ]


def _show(root: str, contents: "CacheContents", data_sets: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.filesize import decimal
    from rich.table import Table

    title = f"{root}: {len(contents.entries):,} spectrograms, {decimal(contents.size)}"
    table = Table(title=title, title_justify="left")
    for column in ("data set", "digest", "front end", "spectrograms", "last used (UTC)"):
        table.add_column(column, justify="right" if column == "spectrograms" else "left")
    for each in data_sets:
        cached, total = each["cached"], each["spectrograms"]
        count = f"{total:,}" if cached == total else f"{cached:,} of {total:,}"
        used = each["last_used"][:16].replace("T", " ")
        table.add_row(each["data_set"], each["digest"][:12], each["front_end"], count, used)
    Console().print(table)


def gc(
    max_size: Annotated[str, typer.Option(help="Size limit, for example 10GB.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be removed.")] = False,
    root: CacheOption = DEFAULT_CACHE,
    json_: JsonOption = False,
) -> None:
    """Remove the least recently used spectrograms until the cache is no larger than --max-size."""
    from rich.filesize import decimal

    from mlops.spectrogram_cache import eviction
    from mlops.storage import open_store

    count, freed = eviction.collect(open_store(root), parse_size(max_size), dry_run)
    if json_:
        print_json({"cache": root, "dry_run": dry_run, "spectrograms": count, "bytes": freed})
        return
    typer.echo(f"{'Would remove' if dry_run else 'Removed'} {count:,} spectrograms, {decimal(freed)}")


def parse_size(text: str) -> int:
    """Return bytes, from text such as "10GB", "500 MB", "2GiB" or "0"."""
    try:
        return TypeAdapter(ByteSize).validate_python(text)
    except ValidationError:
        raise SizeError(f"--max-size: {text!r} is not a size; examples are 10GB, 500MB, 2GiB and 0") from None
