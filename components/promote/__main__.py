"""Command line of the step promote: `python -m components.promote`."""

from pathlib import Path
from typing import Annotated

import typer

from components.promote.settings import PromoteSettings
from components.promote.step import promote
from mlops.command_line import ParamsOption, SetOption, resolve_options, run
from mlops.settings import PARAMS


def main(
    registration: Annotated[Path, typer.Option(help="Folder of the step register.")] = Path("registration"),
    model: Annotated[Path, typer.Option(help="Folder of the step train.")] = Path("model"),
    evaluation: Annotated[Path, typer.Option(help="Folder of the step evaluate.")] = Path("evaluation"),
    spectrograms: Annotated[Path, typer.Option(help="Folder of the step spectrograms.")] = Path("spectrograms"),
    output: Annotated[Path, typer.Option(help="Folder to write.")] = Path("decision"),
    params: ParamsOption = PARAMS,
    set_: SetOption = [],  # noqa: B006
) -> None:
    """Decide whether the registered challenger becomes the champion, and move the alias if it does."""
    promote(
        registration,
        model,
        evaluation,
        spectrograms,
        resolve_options(params, set_).block("promote", PromoteSettings),
        output,
    )


if __name__ == "__main__":
    run(main)
