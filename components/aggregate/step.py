"""The work of the step pool."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from audiocnn import plots
from audiocnn.atomic import atomic_folder, check_output
from audiocnn.config import EvaluateSettings
from audiocnn.evaluation import class_table
from components.aggregate import figures, report
from components.aggregate.figures import Trial
from components.aggregate.gather import AggregateError, classes_of, gather
from mlops import tracking
from mlops.checkpoint_store import CheckpointStore

MARKER = "trials.csv"  # what shows that a folder is an output of this step


@dataclass(frozen=True)
class Aggregate:
    """The trials, the best first, one row a training in `trainings`, and what is said in metrics.json of the best."""

    trials: Sequence[Trial]
    trainings: pd.DataFrame
    metrics: dict[str, Any]

    @property
    def best(self) -> Trial:
        return self.trials[0]

    @property
    def classes(self) -> tuple[str, ...]:
        return classes_of(self.best.predictions)


def aggregate(
    plan: Sequence[Mapping[str, Any]],
    models: Sequence[Path],
    evaluations: Sequence[Path],
    settings: EvaluateSettings,
    output: Path,
    checkpoints: str = "",
) -> Aggregate:
    """Put the predictions of all planned trainings together, and end their common MLflow run with it.

    Then nothing has to be trained again, and their checkpoints are removed.

    Writes metrics.json, predictions.csv, trainings.csv, trials.csv, classes.csv, confusion.csv, confusion.png and
    report.html to `output`, which appears whole or not at all.

    Args:
        plan: what the step plan returned.
        models, evaluations: folders of the steps train and evaluate; those at one place belong together.
        checkpoints: what the trainings were given as such; without it none are removed.
    Raises:
        AggregateError: a training of the plan is missing, comes twice, or is not whole.
        ModelError, TrackingError, OutputError, StorageError: see there.
    """
    if not plan:
        raise AggregateError("the plan is empty, so there is nothing to put together")
    check_output(output, MARKER, [*models, *evaluations])
    with tracking.resume_run(str(plan[0]["parent_run"])) as run:
        results = gather(plan, models, evaluations)
        done = _checkpoints(models, checkpoints)
        trials = figures.ranked(results, settings.confidence)
        rows = figures.trainings(trials, settings.confidence)
        figures_of_best = {**figures.metrics(trials[0]), "confidence": settings.confidence}
        pooled = Aggregate(trials, rows, {"trial": trials[0].name, **figures_of_best})
        with atomic_folder(output, MARKER) as part:
            _write(pooled, part)
            (part / "report.html").write_text(report.render(pooled), encoding="utf-8")
            _log(pooled, figures_of_best, part, run)
    for each in done:
        each.clear()
    _say(pooled)
    return pooled


def _checkpoints(models: Sequence[Path], root: str) -> list[CheckpointStore]:
    """Those of the trainings that gave the models."""
    if not root:
        return []
    told = [json.loads((model / "run.json").read_text(encoding="utf-8")) for model in models]
    return [CheckpointStore(root, record["checkpoint"]) for record in told if "checkpoint" in record]


def _write(pooled: Aggregate, folder: Path) -> None:
    best = pooled.best
    (folder / "metrics.json").write_text(json.dumps(pooled.metrics, indent=2) + "\n", encoding="utf-8")
    predictions = pd.concat([trial.predictions for trial in pooled.trials])
    predictions.to_csv(folder / "predictions.csv", index=False, float_format="%.6f")
    pooled.trainings.to_csv(folder / "trainings.csv", index=False)
    figures.table(pooled.trials).to_csv(folder / MARKER, index=False)
    class_table(best.scores, pooled.classes).to_csv(folder / "classes.csv", index=False)
    confusion = best.scores.confusion
    pd.DataFrame(confusion, columns=list(pooled.classes)).to_csv(folder / "confusion.csv", index=False)
    (folder / "confusion.png").write_bytes(plots.png(plots.confusion(confusion, pooled.classes)))


def _log(pooled: Aggregate, metrics: Mapping[str, float], folder: Path, run: tracking.Run) -> None:
    run.metrics({f"pooled.{name}": value for name, value in metrics.items()})
    if len(pooled.trials) > 1:
        run.tags({"best_trial": pooled.best.name})
    run.table(figures.table(pooled.trials), "pooled/trials.json")
    run.table(pooled.trainings, "pooled/trainings.json")
    for file in sorted(folder.iterdir()):
        run.file(file, "pooled")


def _say(pooled: Aggregate) -> None:
    best = pooled.best
    scores, named = best.scores, f"{best.name}: " if len(pooled.trials) > 1 else ""
    spread = f", {best.deviation:.1%} deviation over {len(best.by_seed)} seeds" if len(best.by_seed) > 1 else ""
    print(
        f"[pool] {named}accuracy {scores.accuracy:.1%} on {pooled.metrics['clips']} clips "
        f"({scores.accuracy_low:.1%} to {scores.accuracy_high:.1%}{spread})",
        flush=True,
    )
