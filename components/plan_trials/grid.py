"""What people type, folds and grids, as what the step plan takes."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from audiocnn.config import TrainSettings
from components.plan_trials.step import PlanError, refuse_fixed
from mlops.settings import RECIPE, YAML_ERRORS, parse_overrides, resolve

AS_IT_IS: Mapping[str, Mapping[str, Any]] = {"as it is": {}}
ALL = "all"
BLOCK = "train."
LONGEST = 80  # characters of a grid's line in a message


def numbers(text: str, option: str) -> list[int]:
    """Whole numbers from "1,2,4"; none from "all".

    Raises:
        PlanError: naming the option.
    """
    if text.strip() == ALL:
        return []
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise PlanError(f"{option} {text}: expected {ALL}, or numbers such as 1,2,4") from None


def trials(path: Path, assignments: Sequence[str], grid: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Every combination of the values of a grid, by name: what it changes in the block train.

    Each is read with params.yaml and its recipe as `--set` would, so that a grid over `recipe` tries whole recipes.

    Args:
        path: params.yaml.
        assignments: overrides that all trials share, as for `params.override`.
        grid: such as ["train.max_lr=0.001,0.002", "train.augment.mix=mixup,power"].
    Raises:
        PlanError: the grid is empty, or a line of it is none.
        ParamsError: a key or a value is impossible.
    """
    if not grid:
        raise PlanError("the grid is empty: give it a line such as train.max_lr=0.001,0.002")
    axes = dict(map(_axis, grid))
    if len(axes) < len(grid):
        raise PlanError("the grid names one key twice; write its values in one line, separated by commas")
    base = resolve(path, parse_overrides([*assignments]))
    front_end, settings = base.values["spectrograms"], base.block("train", TrainSettings).to_dict()
    found: dict[str, dict[str, Any]] = {}
    for point in itertools.product(*axes.values()):
        chosen = dict(zip(axes, point, strict=True))
        name = " ".join(f"{key.removeprefix(BLOCK)}={value}" for key, value in chosen.items())
        refuse_fixed(name, {key.removeprefix(BLOCK): value for key, value in chosen.items()})
        lines = [f"{key}={value}" for key, value in chosen.items()]
        read = resolve(path, parse_overrides([*assignments, *lines]))
        if read.values["spectrograms"] != front_end:
            raise PlanError(
                f"trial {name!r}: its recipe has other spectrograms, and a sweep has one set of them; run "
                "`audiocnn crossval` for each recipe"
            )
        found[name] = _difference(settings, read.block("train", TrainSettings).to_dict())
        if RECIPE in chosen:
            found[name][RECIPE] = read.recipe
    return found


def _axis(line: str) -> tuple[str, list[str]]:
    """("train.max_lr", ["0.001", "0.002"]) from "train.max_lr=0.001,0.002"; the values stay text for `--set`."""
    key, sign, text = (part.strip() for part in line.partition("="))
    if not sign or not (key.startswith(BLOCK) or key == RECIPE):
        raise PlanError(f"grid {line!r}: expected a key of the block train and values: train.max_lr=0.001,0.002")
    try:
        values = yaml.safe_load(f"[{text}]")
        texts = [yaml.safe_dump(value, default_flow_style=True).removesuffix("...\n").strip() for value in values]
    except YAML_ERRORS:
        raise PlanError(f"grid {_short(line)!r}: the values are no list, such as 0.001,0.002") from None
    if not values:
        raise PlanError(f"grid {line!r}: names no value to try")
    return key, texts


def _short(line: str) -> str:
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}..."


def _difference(base: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """What of `other` is not in `base`, nested as they are."""
    changes = {}
    for key, value in other.items():
        if isinstance(value, Mapping):
            if inner := _difference(base[key], value):
                changes[key] = inner
        elif value != base[key]:
            changes[key] = value
    return changes
