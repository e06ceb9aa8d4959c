"""Command line of the step plan_trials: `python -m components.plan_trials`."""

from pathlib import Path
from typing import Annotated

import typer

from audiocnn.config import TrainSettings
from components.plan_trials.grid import ALL, parse_grid, parse_numbers
from components.plan_trials.request import SINGLE_TRIAL, PlanRequest
from components.plan_trials.step import plan_trials
from mlops.artifacts import write_plan
from mlops.command_line import ParamsOption, SetOption, resolve_options, run
from mlops.settings import PARAMS


def main(
    spectrograms: Annotated[Path, typer.Option(help="Folder of the step spectrograms.")] = Path("spectrograms"),
    output: Annotated[Path, typer.Option(help="File to write.")] = Path("plan.json"),
    folds: Annotated[str, typer.Option(help="Numbers such as 1,2,4, or all.")] = ALL,
    seeds: Annotated[str, typer.Option(help="Numbers such as 0,1,2.")] = "0",
    grid: Annotated[list[str], typer.Option(help="Values of one key: train.max_lr=0.001,0.002. Repeatable.")] = [],  # noqa: B006
    params: ParamsOption = PARAMS,
    set_: SetOption = [],  # noqa: B006
) -> None:
    """Plan the trainings of a cross-validation, or with a grid those of a sweep."""
    values = {
        "folds": parse_numbers(folds, "--folds"),
        "seeds": parse_numbers(seeds, "--seeds"),
        "trials": parse_grid(params, set_, grid) if grid else SINGLE_TRIAL,
    }
    request = PlanRequest.parse(values, "command line")
    resolved = resolve_options(params, set_)
    write_plan(output, plan_trials(spectrograms, resolved.recipe, resolved.block("train", TrainSettings), request))


if __name__ == "__main__":
    run(main)
