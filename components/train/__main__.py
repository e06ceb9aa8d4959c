"""`python -m components.train`: the step as a command."""

import json
from pathlib import Path
from typing import Annotated

import typer

from audiocnn.params import ParamsError, parse
from audiocnn.settings import TrainSettings
from components.command import ParamsOption, SetOption, errors_to_exit, load_params
from components.train.step import Member, train


def main(
    spectrograms: Annotated[Path, typer.Option(help="Folder of the step spectrograms.")] = Path("spectrograms"),
    output: Annotated[Path, typer.Option(help="Folder to write.")] = Path("model"),
    checkpoints: Annotated[
        str, typer.Option(help="Where a killed run resumes from: a folder, or s3://bucket/prefix.")
    ] = "var/checkpoints",
    settings: Annotated[
        Path | None, typer.Option(help="The whole block `train` as JSON, instead of --params and its recipe.")
    ] = None,
    parent: Annotated[str, typer.Option(help="The MLflow run under which this one is shown, by its id.")] = "",
    trial: Annotated[str, typer.Option(help="What this one of several under --parent tries, in a few words.")] = "",
    params: ParamsOption = Path("params.yaml"),
    set_: SetOption = [],  # noqa: B006  typer copies it
) -> None:
    """Train a classifier on all folds but one."""
    with errors_to_exit():
        if trial and not parent:
            raise ParamsError("--trial tells trainings under one MLflow run apart; give that run's id as --parent too")
        member = Member(parent, trial) if parent else None
        train(spectrograms, _settings(settings, params, set_), output, checkpoints, member)


def _settings(whole: Path | None, params: Path, assignments: list[str]) -> TrainSettings:
    if whole is None:
        return load_params(params, assignments).train
    try:
        values = json.loads(whole.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ParamsError(f"{whole}: is no JSON: {error}") from error
    return parse(TrainSettings, values, str(whole))


if __name__ == "__main__":
    typer.run(main)
