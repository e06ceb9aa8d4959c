"""The step aggregate: combine the predictions of all trainings of a cross-validation or sweep."""

from collections.abc import Sequence
from pathlib import Path

from audiocnn.config import EvaluateSettings
from components.aggregate import report
from components.aggregate.collect import AggregateError, collect_results
from components.aggregate.trials import Aggregate, rank_trials, training_table, trial_table
from mlops import tracking
from mlops.artifacts import AggregateFolder, Predictions, TrainingRequest
from mlops.checkpoint_store import CheckpointStore


def aggregate(
    plan: Sequence[TrainingRequest],
    models: Sequence[Path],
    evaluations: Sequence[Path],
    settings: EvaluateSettings,
    output: Path,
    checkpoints: str = "",
) -> Aggregate:
    """Aggregate the predictions of all planned trainings, and end their common MLflow run.

    Args:
        plan: the trainings, from the step plan_trials.
        models: folders of the step train, in any order.
        evaluations: folders of the step evaluate, in the order of `models`.
        output: folder to write, see AggregateFolder. It appears complete or not at all.
        checkpoints: the trainings' checkpoint store. Their checkpoints are deleted at the end; none if it is empty.
    Raises:
        AggregateError: the plan is empty, or the results are incomplete or do not belong together.
    """
    if not plan:
        raise AggregateError("the plan is empty; run the step plan_trials again")
    AggregateFolder.check_output(output, [*models, *evaluations])
    with tracking.resume_run(plan[0].parent_run) as run:
        results = collect_results(plan, models, evaluations)
        trials = rank_trials(results, settings.confidence)
        trainings = training_table(trials, settings.confidence)
        result = Aggregate(trials, trainings, trials[0].metrics(settings.confidence))
        with AggregateFolder.create(output) as folder:
            _write(result, folder, settings.audit_fold)
            _log(result, folder, run)
    for training in results:
        if checkpoints and training.run.checkpoint:
            CheckpointStore(checkpoints, training.run.checkpoint).clear()
    _print_summary(result)
    return result


def _write(result: Aggregate, folder: AggregateFolder, audit_fold: int | None) -> None:
    predictions = Predictions.concat([trial.predictions for trial in result.trials])
    folder.write_scores(result.best.scores, predictions.classes, predictions, result.metrics)
    folder.write_tables(trial_table(result.trials, result.metrics.confidence), result.trainings)
    folder.report.write_text(report.render(result, audit_fold), encoding="utf-8")


def _log(result: Aggregate, folder: AggregateFolder, run: tracking.Run) -> None:
    run.log_metrics({f"aggregate.{name}": value for name, value in result.metrics.numbers().items()})
    if len(result.trials) > 1:
        run.set_tags({"best_trial": result.best.name})
    run.log_table(trial_table(result.trials, result.metrics.confidence), "aggregate/trials.json")
    run.log_table(result.trainings, "aggregate/trainings.json")
    for file in sorted(folder.path.iterdir()):
        run.log_file(file, "aggregate")


def _print_summary(result: Aggregate) -> None:
    metrics = result.metrics
    name = f"{metrics.trial}: " if len(result.trials) > 1 else ""
    deviation = f", deviation {metrics.accuracy_deviation:.1%} over {metrics.seeds} seeds" if metrics.seeds > 1 else ""
    print(
        f"[aggregate] {name}accuracy {metrics.accuracy:.1%} on {metrics.clips} clips "
        f"({metrics.confidence:.0%} interval {metrics.accuracy_low:.1%} to {metrics.accuracy_high:.1%}{deviation})",
        flush=True,
    )
