"""The pooled results as a page that people read: one self-contained HTML file."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from audiocnn import plots
from audiocnn.evaluation import class_table
from audiocnn.params import as_dict
from components.pool.figures import Trial

if TYPE_CHECKING:
    from components.pool.step import Pooled

STEPS = (1, 2, 5, 10, 20)  # per cent, from one mark of the axis of accuracies to the next
MARKS = 6  # at most about so many


def render(pooled: "Pooled") -> str:
    """The page's HTML."""
    environment = Environment(
        loader=PackageLoader("components.pool", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
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
        chosen=chosen(pooled.trials),
        digest=best.results[0].digest,
        classes=classes.rename(columns={"class": "name"}).replace("_", " ", regex=True).to_dict("records"),
        confusion=plots.data_uri(plots.confusion(best.scores.confusion, pooled.classes)),
    )


def chosen(trials: Sequence[Trial]) -> dict[str, Any]:
    """The keys of the block train in which the trials differ, with the values of the first."""
    first, *others = (dict(_flat(as_dict(trial.results[0].settings))) for trial in trials)
    return {key: value for key, value in first.items() if any(other[key] != value for other in others)}


def _flat(values: Mapping[str, Any], prefix: str = "train.") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _axis(low: float, high: float) -> list[int]:
    """The marks of the axis in per cent, around all intervals: a sweep's trials are often a few points apart."""
    step = next(step for step in STEPS if 100 * (high - low) <= MARKS * step)
    return list(range(step * math.floor(100 * low / step), step * math.ceil(100 * high / step) + 1, step))
