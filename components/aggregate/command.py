"""The command line that measures the best trial of a sweep on the folds that were held out."""

import json
from pathlib import Path
from shlex import quote
from typing import Any

from audiocnn.config import EvaluateSettings, SpectrogramSettings, TrainSettings
from components.aggregate.trials import Trial
from mlops.settings import PARAMS, RECIPE, flatten, resolve

PACKAGE_PARAMS = Path(__file__).resolve().parents[2] / PARAMS  # used without one in the working directory
PER_TRAINING = ("train.fold", "train.seed", "train.hold_out")


def follow_up_command(best: Trial, audit_fold: int | None) -> str:
    """Return the command with the settings that differ from params.yaml, except the source and the block `ingest`.

    A single held-out fold is tested by `audiocnn run`, several by `audiocnn crossval`. The audit fold stays held out,
    and is measured by every evaluation. If nothing else was held out, the last fold of the sweep is the test fold.
    """
    request, spectrograms = best.results[0].request, best.results[0].spectrograms
    path = PARAMS if PARAMS.is_file() else PACKAGE_PARAMS
    overrides: dict[str, Any] = {} if resolve(path).recipe == request.recipe else {RECIPE: request.recipe}
    base = resolve(path, overrides)
    train = base.block("train", TrainSettings)
    default = _flat(train, base.block("spectrograms", SpectrogramSettings))
    wanted = _flat(request.settings, spectrograms)
    overrides |= {key: value for key, value in wanted.items() if key not in PER_TRAINING and value != default[key]}
    if audit_fold != base.block("evaluate", EvaluateSettings).audit_fold:
        overrides["evaluate.audit_fold"] = audit_fold
    folds = {result.request.settings.fold for result in best.results}
    tested = [fold for fold in request.settings.hold_out if fold != audit_fold] or [max(folds)]
    kept = [fold for fold in request.settings.hold_out if fold == audit_fold]
    if [*train.hold_out] != kept:
        overrides["train.hold_out"] = kept
    if len(tested) == 1:
        words = ["audiocnn", "run"]
        overrides["train.fold"] = tested[0]
    else:
        seeds = str(len(best.accuracy_by_seed))
        words = ["audiocnn", "crossval", "--folds", ",".join(map(str, tested)), "--seeds", seeds]
    for key, value in overrides.items():
        words += ["--set", f"{key}={value if isinstance(value, str) else json.dumps(value)}"]
    return " ".join(map(quote, words))


def _flat(train: TrainSettings, spectrograms: SpectrogramSettings) -> dict[str, Any]:
    return flatten({"train": train.to_dict(), "spectrograms": spectrograms.to_dict()})
