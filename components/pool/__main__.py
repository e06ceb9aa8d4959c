"""`python -m components.pool`: the step as a command."""

import json
from pathlib import Path
from typing import Annotated

import typer

from components.command import ParamsOption, SetOption, errors_to_exit, load_params
from components.pool.gather import PoolError
from components.pool.step import pool


def main(
    folders: Annotated[list[Path], typer.Argument(help="One a training, with its model/ and evaluation/ in it.")],
    plan: Annotated[Path, typer.Option(help="File of the step plan.")] = Path("plan.json"),
    output: Annotated[Path, typer.Option(help="Folder to write.")] = Path("pooled"),
    checkpoints: Annotated[
        str, typer.Option(help="Where the trainings' checkpoints lie, which are removed at the end.")
    ] = "var/checkpoints",
    params: ParamsOption = Path("params.yaml"),
    set_: SetOption = [],  # noqa: B006  typer copies it
) -> None:
    """Put the predictions of all trainings of a plan together."""
    with errors_to_exit():
        settings = load_params(params, set_).evaluate
        try:
            planned = json.loads(plan.read_text(encoding="utf-8"))
        except ValueError as error:
            raise PoolError(f"{plan}: is no plan: {error}") from error
        models, evaluations = ([folder / part for folder in folders] for part in ("model", "evaluation"))
        pool(planned, models, evaluations, settings, output, checkpoints)


if __name__ == "__main__":
    typer.run(main)
