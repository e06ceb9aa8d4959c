"""`python -m components.ingest`: the step as a command."""

from pathlib import Path
from typing import Annotated

import typer

from components.ingest.settings import IngestSettings
from components.ingest.sources import KINDS
from components.ingest.step import ingest
from mlops.command_line import ParamsOption, SetOption, errors_to_exit, resolve_options

SOURCES = "; ".join(kind.described for kind in KINDS)


def main(
    source: Annotated[str, typer.Option(help=f"One of: {SOURCES}.")] = "demo",
    output: Annotated[Path, typer.Option(help="Folder to write.")] = Path("dataset"),
    params: ParamsOption = Path("params.yaml"),
    set_: SetOption = [],  # noqa: B006  typer copies it
) -> None:
    """Check a labelled set of clips against the contract and write the clip table."""
    with errors_to_exit():
        ingest(source, resolve_options(params, set_).block("ingest", IngestSettings), output)


if __name__ == "__main__":
    typer.run(main)
