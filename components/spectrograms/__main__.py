"""Command line of the step spectrograms: `python -m components.spectrograms`."""

from pathlib import Path
from typing import Annotated

import typer

from audiocnn.config import SpectrogramSettings
from components.spectrograms.step import Shard, fill_cache, spectrograms
from mlops.command_line import ParamsOption, SetOption, resolve_options, run
from mlops.settings import PARAMS
from mlops.spectrogram_cache import DEFAULT_CACHE


def main(
    dataset: Annotated[Path, typer.Option(help="Folder of the step ingest.")] = Path("dataset"),
    output: Annotated[Path, typer.Option(help="Folder to write.")] = Path("spectrograms"),
    cache: Annotated[str, typer.Option(help="Shared cache: a folder, or s3://bucket/prefix.")] = DEFAULT_CACHE,
    shard: Annotated[str, typer.Option(help="Only fill the cache with one shard, for example 2/8.")] = "",
    params: ParamsOption = PARAMS,
    set_: SetOption = [],  # noqa: B006
) -> None:
    """Compute the spectrograms of a data set."""
    settings = resolve_options(params, set_).block("spectrograms", SpectrogramSettings)
    if shard:
        fill_cache(dataset, settings, cache, Shard.parse(shard))
    else:
        spectrograms(dataset, settings, output, cache)


if __name__ == "__main__":
    run(main)
