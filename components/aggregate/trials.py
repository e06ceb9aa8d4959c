"""Metrics of trials over all folds and seeds, and their comparison."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from audiocnn.evaluation import Scores, mcnemar_p_value
from audiocnn.intervals import share_interval
from components.aggregate.collect import TrainingResult
from mlops.artifacts import AggregateMetrics, Predictions
from mlops.artifacts.evaluation_folder import ACCURACY


@dataclass(frozen=True)
class Trial:
    """One trial over all its folds and seeds. A cross-validation has a single one without a name.

    Attributes:
        name: what distinguishes it from other trials.
        predictions: of all its trainings, with the columns trial and seed in front.
        scores: of all these predictions. The interval is computed for the number of distinct clips: further seeds
            repeat the same clips.
        accuracy_by_seed: accuracy over all folds, by seed.
        p_value: of the comparison with the first trial on the same clips, 1 for the first itself.
    """

    name: str
    results: Sequence[TrainingResult]
    predictions: Predictions
    scores: Scores
    accuracy_by_seed: dict[int, float]
    p_value: float = 1.0

    @property
    def deviation(self) -> float:
        """Standard deviation of the accuracy over the seeds, 0 for one seed."""
        return statistics.stdev(self.accuracy_by_seed.values()) if len(self.accuracy_by_seed) > 1 else 0.0

    def metrics(self, confidence: float) -> AggregateMetrics:
        """Return the metrics; `clips` is the number of distinct clips."""
        return AggregateMetrics.of(
            self.scores,
            trial=self.name,
            clips=self.predictions.table["filename"].nunique(),
            seeds=len(self.accuracy_by_seed),
            accuracy_deviation=self.deviation,
            confidence=confidence,
        )


@dataclass(frozen=True)
class Aggregate:
    """All trials, the best first (a cross-validation has one); one row per training; the metrics of the best trial."""

    trials: Sequence[Trial]
    trainings: pd.DataFrame
    metrics: AggregateMetrics

    @property
    def best(self) -> Trial:
        return self.trials[0]


def rank_trials(results: Sequence[TrainingResult], confidence: float) -> list[Trial]:
    """Return the trials, the highest accuracy first, equal ones by loss."""
    names = dict.fromkeys(result.request.trial for result in results)
    trials = [_trial(name, [each for each in results if each.request.trial == name], confidence) for name in names]
    trials.sort(key=lambda trial: (-trial.scores.accuracy, trial.scores.loss))
    first, *others = (_share_correct(trial) for trial in trials)
    # McNemar's exact test; with several seeds it is the sign test over the clips.
    p_values = [mcnemar_p_value(first > other, other > first) for other in others]
    return [trials[0], *(replace(trial, p_value=value) for trial, value in zip(trials[1:], p_values, strict=True))]


def trial_table(trials: Sequence[Trial], confidence: float) -> pd.DataFrame:
    """Return one row per trial, in the given order: its metrics and p_value."""
    return pd.DataFrame([{**trial.metrics(confidence).to_dict(), "p_value": trial.p_value} for trial in trials])


def training_table(trials: Sequence[Trial], confidence: float) -> pd.DataFrame:
    """Return one row per training: trial, seed, fold, clips, accuracy with its interval, loss and MLflow run."""
    rows = []
    for trial in trials:
        for result in sorted(trial.results, key=lambda each: (each.request.settings.seed, each.request.settings.fold)):
            scores = result.predictions.scores(confidence)
            rows.append(
                {
                    "trial": trial.name,
                    "seed": result.request.settings.seed,
                    "fold": result.request.settings.fold,
                    **{name: getattr(scores, name) for name in ("clips", *ACCURACY)},
                    "run_id": result.run.run_id,
                }
            )
    return pd.DataFrame(rows)


def _trial(name: str, results: Sequence[TrainingResult], confidence: float) -> Trial:
    predictions = Predictions.concat(
        [result.predictions.with_columns(trial=name, seed=result.request.settings.seed) for result in results]
    )
    scores = predictions.scores(confidence)
    clips = predictions.table.groupby("filename").agg({"correct": "mean", "src_file": "first"})
    correct, recordings = clips["correct"].to_numpy(), clips["src_file"].to_numpy()
    scores.intervals["accuracy"] = share_interval(correct, recordings, confidence)
    by_seed = {int(seed): float(rows["correct"].mean()) for seed, rows in predictions.table.groupby("seed")}
    return Trial(name, results, predictions, scores, by_seed)


def _share_correct(trial: Trial) -> npt.NDArray[np.float64]:
    """Return the share of seeds that classify each clip correctly, in the order of the filenames."""
    shares: npt.NDArray[np.float64] = (
        trial.predictions.table.groupby("filename")["correct"].mean().sort_index().to_numpy()
    )
    return shares
