"""`python -m components.train`: the step as a command."""

import json
from pathlib import Path
from typing import Annotated

import typer

from audiocnn.config import TrainSettings
from audiocnn.strict_model import SettingsError
from components.train.step import train
from mlops.artifacts import TrainingRequest
from mlops.command_line import ParamsOption, SetOption, errors_to_exit, resolve_options


def main(
    spectrograms: Annotated[Path, typer.Option(help="Folder of the step spectrograms.")] = Path("spectrograms"),
    output: Annotated[Path, typer.Option(help="Folder to write.")] = Path("model"),
    checkpoints: Annotated[
        str, typer.Option(help="Where a killed run resumes from: a folder, or s3://bucket/prefix.")
    ] = "var/checkpoints",
    request: Annotated[
        Path | None, typer.Option(help="A JSON file with the recipe and the whole block `train`, instead of --params.")
    ] = None,
    params: ParamsOption = Path("params.yaml"),
    set_: SetOption = [],  # noqa: B006  typer copies it
) -> None:
    """Train a classifier on all folds but one."""
    with errors_to_exit():
        train(spectrograms, _request(request, params, set_), output, checkpoints)


def _request(file: Path | None, params: Path, assignments: list[str]) -> TrainingRequest:
    if file is None:
        resolved = resolve_options(params, assignments)
        return TrainingRequest(recipe=resolved.recipe, settings=resolved.block("train", TrainSettings))
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SettingsError(f"{file}: is not JSON: {error}") from error
    return TrainingRequest.parse(values, str(file))


if __name__ == "__main__":
    typer.run(main)
