"""Command line of the step register: `python -m components.register`."""

from pathlib import Path
from typing import Annotated

import typer

from components.register.step import register
from mlops.command_line import ParamsOption, SetOption, resolve_options, run
from mlops.register_settings import RegisterSettings
from mlops.settings import PARAMS


def main(
    model: Annotated[Path, typer.Option(help="Folder of the step train.")] = Path("model"),
    evaluation: Annotated[Path, typer.Option(help="Folder of the step evaluate.")] = Path("evaluation"),
    dataset: Annotated[Path, typer.Option(help="Folder of the step ingest.")] = Path("dataset"),
    output: Annotated[Path, typer.Option(help="Folder to write.")] = Path("registration"),
    params: ParamsOption = PARAMS,
    set_: SetOption = [],  # noqa: B006
) -> None:
    """Register a trained and evaluated model as a version, under the alias challenger."""
    register(model, evaluation, dataset, resolve_options(params, set_).block("register", RegisterSettings), output)


if __name__ == "__main__":
    run(main)
