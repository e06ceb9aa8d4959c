"""The HTML report of a cross-validation or sweep."""

import math
from pathlib import Path

from components.aggregate.command import follow_up_command
from components.aggregate.trials import Aggregate
from mlops import reports

TEMPLATE = Path(__file__).with_name("report.html.j2")
TICK_STEPS = (1, 2, 5, 10, 20)  # between two ticks of the accuracy axis, in percent
MAX_TICKS = 6


def render(aggregate: Aggregate, audit_fold: int | None) -> str:
    best, classes = aggregate.best, aggregate.best.predictions.classes
    request = best.results[0].request
    trainings = aggregate.trainings[aggregate.trainings["trial"] == best.name]
    sweep = len(aggregate.trials) > 1
    class_values = reports.class_values(best.scores, classes)
    for row in class_values["classes"]:
        row["clips"] //= len(best.accuracy_by_seed)
    return reports.render(
        TEMPLATE,
        sweep=sweep,
        trials=aggregate.trials,
        best=best,
        metrics=aggregate.metrics,
        seeds=list(best.accuracy_by_seed),
        trainings=trainings.to_dict("records"),
        ticks=_ticks(
            min([*trainings["accuracy_low"], *(trial.scores.accuracy_low for trial in aggregate.trials)]),
            max([*trainings["accuracy_high"], *(trial.scores.accuracy_high for trial in aggregate.trials)]),
        ),
        folds=sorted(set(trainings["fold"])),
        settings=request.settings,
        audit_only=[*request.settings.hold_out] == [audit_fold],
        recipe=request.recipe,
        command=follow_up_command(best, audit_fold) if sweep else "",
        **class_values,
        provenance=[
            ("data set digest", best.results[0].digest),
            *((f"MLflow run, fold {row.fold}, seed {row.seed}", row.run_id) for row in trainings.itertuples()),
        ],
    )


def _ticks(low: float, high: float) -> list[int]:
    """Return the ticks of an axis in percent that spans all intervals: trials often differ by few points."""
    step = next(step for step in TICK_STEPS if 100 * (high - low) <= MAX_TICKS * step)
    return list(range(step * math.floor(100 * low / step), step * math.ceil(100 * high / step) + 1, step))
