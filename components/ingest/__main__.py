"""Command line of the step ingest: `python -m components.ingest`."""

from pathlib import Path
from typing import Annotated

import typer

from components.ingest.settings import IngestSettings
from components.ingest.sources import Source
from components.ingest.step import ingest
from mlops.command_line import ParamsOption, SetOption, errors_to_exit, resolve_options
from mlops.settings import PARAMS

SOURCES = "; ".join(source.description for source in Source.types)


def main(
    source: Annotated[str, typer.Option(help=f"One of: {SOURCES}.")] = "demo",
    output: Annotated[Path, typer.Option(help="Output folder.")] = Path("dataset"),
    params: ParamsOption = PARAMS,
    set_: SetOption = [],  # noqa: B006  typer copies it
) -> None:
    """Check a data set and write its clip table."""
    with errors_to_exit():
        ingest(source, resolve_options(params, set_).block("ingest", IngestSettings), output)


if __name__ == "__main__":
    typer.run(main)
