"""`python -m components.ingest`: the step as a command."""

from pathlib import Path
from typing import Annotated

import typer

from components.command import ParamsOption, SetOption, errors_to_exit, load_params
from components.ingest.sources import KINDS
from components.ingest.step import ingest

SOURCES = "; ".join(kind.described for kind in KINDS)


def main(
    source: Annotated[str, typer.Option(help=f"One of: {SOURCES}.")] = "demo",
    output: Annotated[Path, typer.Option(help="Folder to write.")] = Path("dataset"),
    params: ParamsOption = Path("params.yaml"),
    set_: SetOption = [],  # noqa: B006  typer copies it
) -> None:
    """Check a labelled set of clips against the contract and write the clip table."""
    with errors_to_exit():
        ingest(source, load_params(params, set_).ingest, output)


if __name__ == "__main__":
    typer.run(main)
