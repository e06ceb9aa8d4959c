"""Parse the command line's folds, seeds and grids."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from audiocnn.config import TrainSettings
from components.plan_trials.request import PlanError
from mlops.settings import RECIPE, YAML_ERRORS, difference, parse_overrides, resolve

ALL = "all"
BLOCK = "train."
MAX_LENGTH = 80  # of a grid's line in an error message


def parse_numbers(text: str, option: str) -> list[int]:
    """Return the numbers of "1,2,4", and an empty list for "all"; `option` is for the error message."""
    if text.strip() == ALL:
        return []
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise PlanError(f"{option} {text}: expected {ALL}, or numbers such as 1,2,4") from None


def parse_grid(params: Path, assignments: Sequence[str], grid: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the trials of a grid: every combination of its values, as in PlanRequest.trials.

    Each trial is resolved with params.yaml and its recipe, so a grid over `recipe` compares whole recipes.

    Args:
        assignments: overrides that all trials share, such as "train.epochs=3".
        grid: lines such as "train.max_lr=0.001,0.002".
    Raises:
        PlanError: the grid is empty or malformed, or its recipes need different spectrograms.
        SettingsError: a key is unknown or a value invalid.
    """
    if not grid:
        raise PlanError("the grid is empty; add a line such as train.max_lr=0.001,0.002")
    axes = dict(map(_parse_line, grid))
    if len(axes) < len(grid):
        raise PlanError("a key of the grid is duplicated; write all its values in one line, separated by commas")
    base = resolve(params, parse_overrides([*assignments]))
    base_settings = base.block("train", TrainSettings).to_dict()
    trials: dict[str, dict[str, Any]] = {}
    for point in itertools.product(*axes.values()):
        chosen = dict(zip(axes, point, strict=True))
        name = " ".join(f"{key.removeprefix(BLOCK)}={value}" for key, value in chosen.items())
        overrides = [f"{key}={value}" for key, value in chosen.items()]
        resolved = resolve(params, parse_overrides([*assignments, *overrides]))
        if resolved.values["spectrograms"] != base.values["spectrograms"]:
            raise PlanError(
                f"trial {name!r}: its recipe changes the block spectrograms, which all trials of a sweep share; run "
                "`audiocnn crossval` for each recipe"
            )
        trials[name] = difference(resolved.block("train", TrainSettings).to_dict(), base_settings)
        if resolved.recipe != base.recipe:
            trials[name][RECIPE] = resolved.recipe
    return trials


def _parse_line(line: str) -> tuple[str, list[str]]:
    """Parse "train.max_lr=0.001,0.002" into ("train.max_lr", ["0.001", "0.002"]); values stay text, as for `--set`."""
    short = line if len(line) <= MAX_LENGTH else f"{line[:MAX_LENGTH]}..."
    key, sign, text = (part.strip() for part in line.partition("="))
    if not sign or not (key.startswith(BLOCK) or key == RECIPE):
        raise PlanError(f"grid {short!r}: expected a key of the block train and its values: train.max_lr=0.001,0.002")
    try:
        values = yaml.safe_load(f"[{text}]")
        texts = [yaml.safe_dump(value, default_flow_style=True).removesuffix("...\n").strip() for value in values]
    except YAML_ERRORS:
        raise PlanError(f"grid {short!r}: expected a list of values, such as 0.001,0.002") from None
    if not values:
        raise PlanError(f"grid {short!r}: the list of values is empty")
    return key, texts
