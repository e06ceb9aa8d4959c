"""Command line of the step deploy: `python -m components.deploy`."""

from pathlib import Path
from typing import Annotated

import typer

from components.deploy.settings import DeploySettings
from components.deploy.step import deploy
from mlops.command_line import ParamsOption, SetOption, resolve_options, run
from mlops.register_settings import RegisterSettings
from mlops.settings import PARAMS


def main(
    dataset: Annotated[Path, typer.Option(help="Folder of the step ingest for the smoke test.")] = Path("dataset"),
    output: Annotated[Path, typer.Option(help="Folder to write.")] = Path("deployment"),
    params: ParamsOption = PARAMS,
    set_: SetOption = [],  # noqa: B006  typer copies it
) -> None:
    """Make TorchServe serve the champion of the registry."""
    resolved = resolve_options(params, set_)
    name = resolved.block("register", RegisterSettings).name
    deploy(name, dataset, resolved.block("deploy", DeploySettings), output)


if __name__ == "__main__":
    run(main)
