"""`python -m components.pool`: the step as a command."""

import json
from pathlib import Path
from typing import Annotated

import typer

from audiocnn.config import EvaluateSettings
from components.aggregate.gather import AggregateError
from components.aggregate.step import aggregate
from mlops.command_line import ParamsOption, SetOption, errors_to_exit, resolve_options


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
        settings = resolve_options(params, set_).block("evaluate", EvaluateSettings)
        try:
            planned = json.loads(plan.read_text(encoding="utf-8"))
        except ValueError as error:
            raise AggregateError(f"{plan}: is no plan: {error}") from error
        models, evaluations = ([folder / part for folder in folders] for part in ("model", "evaluation"))
        aggregate(planned, models, evaluations, settings, output, checkpoints)


if __name__ == "__main__":
    typer.run(main)
