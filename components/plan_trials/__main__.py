"""`python -m components.plan`: the step as a command."""

import json
from pathlib import Path
from typing import Annotated

import typer

from audiocnn.atomic import atomic_file
from audiocnn.config import TrainSettings
from components.plan_trials import grid as grids
from components.plan_trials.step import Request, plan_trials
from mlops.command_line import ParamsOption, SetOption, errors_to_exit, resolve_options


def main(
    spectrograms: Annotated[Path, typer.Option(help="Folder of the step spectrograms.")] = Path("spectrograms"),
    output: Annotated[Path, typer.Option(help="File to write.")] = Path("plan.json"),
    folds: Annotated[str, typer.Option(help="Numbers such as 1,2,4, or all.")] = grids.ALL,
    seeds: Annotated[str, typer.Option(help="Numbers such as 0,1,2.")] = "0",
    grid: Annotated[list[str], typer.Option(help="One key's values: train.max_lr=0.001,0.002. Repeatable.")] = [],  # noqa: B006
    params: ParamsOption = Path("params.yaml"),
    set_: SetOption = [],  # noqa: B006
) -> None:
    """List the trainings of a cross-validation, or with a grid of a sweep."""
    with errors_to_exit():
        request = Request(
            grids.numbers(folds, "--folds"),
            grids.numbers(seeds, "--seeds"),
            grids.trials(params, set_, grid) if grid else grids.AS_IT_IS,
        )
        resolved = resolve_options(params, set_)
        settings = resolved.block("train", TrainSettings)
        planned = plan_trials(spectrograms, resolved.recipe, settings, request)
        with atomic_file(output) as part:
            part.write_text(json.dumps(planned, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
