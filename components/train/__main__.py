"""Command line of the step train: `python -m components.train`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from audiocnn.config import SpectrogramSettings, TrainSettings
from audiocnn.data.spectrogram_set import check_front_end
from audiocnn.strict_model import SettingsError
from components.train.step import train
from mlops.artifacts import TrainingRequest
from mlops.checkpoint_store import DEFAULT_CHECKPOINTS
from mlops.command_line import ParamsOption, SetOption, resolve_options, run
from mlops.settings import PARAMS


def main(
    spectrograms: Annotated[Path, typer.Option(help="Output folder of the step spectrograms.")] = Path("spectrograms"),
    output: Annotated[Path, typer.Option(help="Output folder.")] = Path("model"),
    checkpoints: Annotated[
        str, typer.Option(help="Folder or s3://bucket/prefix of the checkpoints, from which a killed run resumes.")
    ] = DEFAULT_CHECKPOINTS,
    request: Annotated[
        Path | None, typer.Option(help="A TrainingRequest as JSON: recipe, settings, trial, parent_run.")
    ] = None,
    params: ParamsOption = PARAMS,
    set_: SetOption = [],  # noqa: B006  typer copies it
) -> None:
    """Train a classifier on all folds except the test fold."""
    if request is None:
        resolved = resolve_options(params, set_)
        parsed = TrainingRequest(recipe=resolved.recipe, settings=resolved.block("train", TrainSettings))
        check_front_end(spectrograms, resolved.block("spectrograms", SpectrogramSettings))
    else:
        parsed = _read_request(request)
    train(spectrograms, parsed, output, checkpoints)


def _read_request(file: Path) -> TrainingRequest:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SettingsError(f"{file}: not valid JSON: {error}") from error
    return TrainingRequest.parse(values, str(file))


if __name__ == "__main__":
    run(main)
