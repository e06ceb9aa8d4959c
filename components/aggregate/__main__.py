"""Command line of the step aggregate: `python -m components.aggregate`."""

from pathlib import Path
from typing import Annotated

import typer

from audiocnn.config import EvaluateSettings
from components.aggregate.step import aggregate
from mlops.artifacts import read_plan
from mlops.checkpoint_store import DEFAULT_CHECKPOINTS
from mlops.command_line import ParamsOption, SetOption, resolve_options, run
from mlops.settings import PARAMS


def main(
    folders: Annotated[list[Path], typer.Argument(help="One folder per training, with its model/ and evaluation/.")],
    plan: Annotated[Path, typer.Option(help="File of the step plan_trials.")] = Path("plan.json"),
    output: Annotated[Path, typer.Option(help="Folder to write.")] = Path("aggregate"),
    checkpoints: Annotated[
        str, typer.Option(help="Folder or s3:// prefix of the trainings' checkpoints, which are deleted at the end.")
    ] = DEFAULT_CHECKPOINTS,
    params: ParamsOption = PARAMS,
    set_: SetOption = [],  # noqa: B006
) -> None:
    """Aggregate the predictions of all trainings of a plan."""
    settings = resolve_options(params, set_).block("evaluate", EvaluateSettings)
    models, evaluations = ([folder / part for folder in folders] for part in ("model", "evaluation"))
    aggregate(read_plan(plan), models, evaluations, settings, output, checkpoints)


if __name__ == "__main__":
    run(main)
