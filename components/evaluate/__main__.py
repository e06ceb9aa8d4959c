"""Command line of the step evaluate: `python -m components.evaluate`."""

from pathlib import Path
from typing import Annotated

import typer

from audiocnn.config import EvaluateSettings
from components.evaluate.step import evaluate
from mlops.command_line import ParamsOption, SetOption, resolve_options, run
from mlops.settings import PARAMS


def main(
    model: Annotated[Path, typer.Option(help="Folder of the step train.")] = Path("model"),
    spectrograms: Annotated[Path, typer.Option(help="Folder of the step spectrograms.")] = Path("spectrograms"),
    dataset: Annotated[Path, typer.Option(help="Folder of the step ingest.")] = Path("dataset"),
    output: Annotated[Path, typer.Option(help="Folder to write.")] = Path("evaluation"),
    params: ParamsOption = PARAMS,
    set_: SetOption = [],  # noqa: B006
) -> None:
    """Evaluate a classifier on the fold that it was not trained on."""
    settings = resolve_options(params, set_).block("evaluate", EvaluateSettings)
    evaluate(model, spectrograms, dataset, settings, output)


if __name__ == "__main__":
    run(main)
