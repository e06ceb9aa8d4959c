"""`python -m components.deploy`: the step as a command."""

from pathlib import Path
from typing import Annotated

import typer

from components.command import ParamsOption, SetOption, errors_to_exit, load_params
from components.deploy.step import deploy


def main(
    dataset: Annotated[Path, typer.Option(help="Folder of the step ingest, for the smoke test.")] = Path("dataset"),
    output: Annotated[Path, typer.Option(help="Folder to write.")] = Path("deployment"),
    params: ParamsOption = Path("params.yaml"),
    set_: SetOption = [],  # noqa: B006  typer copies it
) -> None:
    """Make TorchServe answer with the champion of the registry."""
    with errors_to_exit():
        loaded = load_params(params, set_)
        deploy(loaded.register.name, dataset, loaded.deploy, output)


if __name__ == "__main__":
    typer.run(main)
