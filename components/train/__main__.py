"""`python -m components.train`: the step as a command."""

from pathlib import Path
from typing import Annotated

import typer

from components.command import ParamsOption, SetOption, errors_to_exit, load_params
from components.train.step import train


def main(
    spectrograms: Annotated[Path, typer.Option(help="Folder of the step spectrograms.")] = Path("spectrograms"),
    output: Annotated[Path, typer.Option(help="Folder to write.")] = Path("model"),
    checkpoints: Annotated[
        str, typer.Option(help="Where a killed run resumes from: a folder, or s3://bucket/prefix.")
    ] = "var/checkpoints",
    params: ParamsOption = Path("params.yaml"),
    set_: SetOption = [],  # noqa: B006  typer copies it
) -> None:
    """Train a classifier on all folds but one."""
    with errors_to_exit():
        train(spectrograms, load_params(params, set_).train, output, checkpoints)


if __name__ == "__main__":
    typer.run(main)
