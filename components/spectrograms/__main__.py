"""`python -m components.spectrograms`: the step as a command."""

from pathlib import Path
from typing import Annotated

import typer

from components.command import ParamsOption, SetOption, errors_to_exit, load_params
from components.spectrograms.step import spectrograms


def main(
    dataset: Annotated[Path, typer.Option(help="Folder of the step ingest.")] = Path("dataset"),
    output: Annotated[Path, typer.Option(help="Folder to write.")] = Path("spectrograms"),
    cache: Annotated[Path, typer.Option(help="Root of the shared cache.")] = Path("var/cache/spectrograms"),
    params: ParamsOption = Path("params.yaml"),
    set_: SetOption = [],  # noqa: B006  typer copies it
) -> None:
    """Compute the spectrograms of a data set, each once."""
    with errors_to_exit():
        spectrograms(dataset, load_params(params, set_).spectrograms, output, cache)


if __name__ == "__main__":
    typer.run(main)
