"""Command line of the step ingest: `python -m components.ingest`."""

from pathlib import Path
from typing import Annotated

import typer

from audiocnn.config import SpectrogramSettings
from components.ingest import SOURCES
from components.ingest.settings import IngestSettings
from components.ingest.step import ingest
from mlops.command_line import ParamsOption, SetOption, resolve_options, run
from mlops.settings import PARAMS


def main(
    source: Annotated[str, typer.Option(help=f"One of: {SOURCES}.")] = "demo",
    output: Annotated[Path, typer.Option(help="Output folder.")] = Path("dataset"),
    params: ParamsOption = PARAMS,
    set_: SetOption = [],  # noqa: B006  typer copies it
) -> None:
    """Check a data set and write its clip table."""
    settings = resolve_options(params, set_)
    front_end = settings.block("spectrograms", SpectrogramSettings)
    ingest(source, settings.block("ingest", IngestSettings), front_end, output)


if __name__ == "__main__":
    run(main)
