"""The command line that tests the best trial of a sweep on the folds that were held out."""

import json
from pathlib import Path
from shlex import quote
from typing import Any

from audiocnn.config import SpectrogramSettings, TrainSettings
from components.aggregate.trials import Trial
from mlops.settings import PARAMS, RECIPE, flatten, resolve

PACKAGE_PARAMS = Path(__file__).resolve().parents[2] / PARAMS  # used without one in the working directory
PER_TRAINING = ("train.fold", "train.seed", "train.hold_out")


def held_out_test_command(best: Trial) -> str:
    """Return the command with the settings that differ from params.yaml, except the source and the block `ingest`.

    A single held-out fold is tested by `audiocnn run`, several by `audiocnn crossval`.
    """
    request, spectrograms = best.results[0].request, best.results[0].spectrograms
    path = PARAMS if PARAMS.is_file() else PACKAGE_PARAMS
    overrides: dict[str, Any] = {} if resolve(path).recipe == request.recipe else {RECIPE: request.recipe}
    base = resolve(path, overrides)
    train = base.block("train", TrainSettings)
    default = _flat(train, base.block("spectrograms", SpectrogramSettings))
    wanted = _flat(request.settings, spectrograms)
    overrides |= {key: value for key, value in wanted.items() if key not in PER_TRAINING and value != default[key]}
    if train.hold_out:
        overrides["train.hold_out"] = []
    held_out = request.settings.hold_out
    if len(held_out) == 1:
        words = ["audiocnn", "run"]
        overrides["train.fold"] = held_out[0]
    else:
        folds, seeds = ",".join(map(str, held_out)), str(len(best.accuracy_by_seed))
        words = ["audiocnn", "crossval", "--folds", folds, "--seeds", seeds]
    for key, value in overrides.items():
        words += ["--set", f"{key}={value if isinstance(value, str) else json.dumps(value)}"]
    return " ".join(map(quote, words))


def _flat(train: TrainSettings, spectrograms: SpectrogramSettings) -> dict[str, Any]:
    """Return the settings of both blocks by dotted key."""
    return flatten({"train": train.to_dict(), "spectrograms": spectrograms.to_dict()})
