"""The pooled results as a page that people read: one self-contained HTML file."""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from audiocnn import plots
from audiocnn.config import TrainSettings
from audiocnn.evaluation import class_table
from audiocnn.strict_model import SettingsError
from components.aggregate.figures import Trial
from mlops.settings import RECIPE, ResolvedSettings, resolve

if TYPE_CHECKING:
    from components.aggregate.step import Aggregate

STEPS = (1, 2, 5, 10, 20)  # per cent, from one mark of the axis of accuracies to the next
MARKS = 6  # at most about so many
PARAMS = Path("params.yaml")
OWN = Path(__file__).resolve().parents[2] / "params.yaml"  # of this code, where none lies in the working folder
PER_TRAINING = ("train.fold", "train.seed", "train.hold_out")


def render(pooled: "Aggregate") -> str:
    """The page's HTML."""
    environment = Environment(
        loader=PackageLoader("components.aggregate", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    best = pooled.best
    rows = pooled.trainings[pooled.trainings["trial"] == best.name]
    classes = class_table(best.scores, pooled.classes).sort_values(["recall", "f1", "class"])
    return environment.get_template("report.html.j2").render(
        trials=pooled.trials,
        best=best,
        metrics=pooled.metrics,
        trainings=rows.to_dict("records"),
        axis=_axis(
            min([*rows["accuracy_low"], *(trial.scores.accuracy_low for trial in pooled.trials)]),
            max([*rows["accuracy_high"], *(trial.scores.accuracy_high for trial in pooled.trials)]),
        ),
        folds=sorted({result.settings.fold for result in best.results}),
        settings=best.results[0].settings,
        recipe=best.results[0].recipe,
        command=command(best) if len(pooled.trials) > 1 else "",
        digest=best.results[0].digest,
        classes=classes.rename(columns={"class": "name"}).replace("_", " ", regex=True).to_dict("records"),
        confusion=plots.data_uri(plots.confusion(best.scores.confusion, pooled.classes)),
    )


def command(best: Trial) -> str:
    """What trains as a sweep's best trial did and tests on what was held out, less the source and its ingest.

    It names all that is not as in params.yaml. One fold goes the whole road; several are tested on each in turn.
    """
    tried, held = best.results[0].settings, best.results[0].settings.hold_out
    given, base = _base(best.results[0].recipe)
    train = base.block("train", TrainSettings)
    for block, own in (("train", tried), ("spectrograms", best.results[0].front_end)):
        there = dict(_flat(base.block(block, type(own)).to_dict() if own else {}, f"{block}."))
        wanted = _flat(own.to_dict(), f"{block}.") if own else ()
        given |= {key: value for key, value in wanted if key not in PER_TRAINING and there[key] != value}
    if train.hold_out:
        given["train.hold_out"] = []
    if len(held) == 1:
        words = ["audiocnn", "run"]
        given["train.fold"] = held[0]
    else:
        words = ["audiocnn", "crossval", "--folds", ",".join(map(str, held)), "--seeds", str(len(best.by_seed))]
    for key, value in given.items():
        words += ["--set", f"{key}={value if isinstance(value, str) else json.dumps(value)}"]
    return " ".join(map(quote, words))


def _base(recipe: str) -> tuple[dict[str, Any], ResolvedSettings]:
    """The settings from which the command starts, and the key that brings them to the recipe, if one does."""
    path = PARAMS if PARAMS.is_file() else OWN
    try:
        plain = resolve(path)
        if plain.recipe == recipe:
            return {}, plain
        return {RECIPE: recipe}, resolve(path, {RECIPE: recipe})
    except SettingsError:  # a recipe that is not there, or a file that was spoilt since
        return {}, resolve(OWN)


def _flat(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _axis(low: float, high: float) -> list[int]:
    """The marks of the axis in per cent, around all intervals: a sweep's trials are often a few points apart."""
    step = next(step for step in STEPS if 100 * (high - low) <= MARKS * step)
    return list(range(step * math.floor(100 * low / step), step * math.ceil(100 * high / step) + 1, step))
