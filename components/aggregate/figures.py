"""What the pooled predictions amount to: by trial, by fold and seed, and the trials against each other."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from audiocnn.evaluation import Scores, compare, score, wilson_interval
from components.aggregate.gather import Result, outputs


@dataclass(frozen=True)
class Trial:
    """One trial over all its folds and seeds.

    predictions: of all trainings, one row a clip and seed, with the columns trial and seed in front.
    scores: of all of those rows; the interval is that of the distinct clips, since a second seed is no second clip.
    by_seed: accuracy pooled over the folds, one a seed.    deviation: of those, 0 for one seed.
    p_value: of the hits against those of the first trial, clip by clip; 1 for the first itself.
    """

    name: str
    results: Sequence[Result]
    predictions: pd.DataFrame
    scores: Scores
    by_seed: dict[int, float]
    p_value: float = 1.0

    @property
    def deviation(self) -> float:
        return statistics.stdev(self.by_seed.values()) if len(self.by_seed) > 1 else 0.0


def ranked(results: Sequence[Result], confidence: float) -> list[Trial]:
    """The trials, the most accurate first; of equals the one with the lower loss."""
    names = dict.fromkeys(result.trial for result in results)
    trials = [_trial(name, [each for each in results if each.trial == name], confidence) for name in names]
    trials.sort(key=lambda trial: (-trial.scores.accuracy, trial.scores.loss))
    first = _hits(trials[0])
    return [trials[0], *(replace(trial, p_value=_p_value(first, _hits(trial))) for trial in trials[1:])]


def trainings(trials: Sequence[Trial], confidence: float) -> pd.DataFrame:
    """One row a training: trial, seed, fold, clips, accuracy with its interval, loss in nats, and the MLflow run."""
    rows = []
    for trial in trials:
        for result in sorted(trial.results, key=lambda each: (each.settings.seed, each.settings.fold)):
            own = score(*outputs(result.predictions), confidence)
            rows.append(
                {
                    "trial": trial.name,
                    "seed": result.settings.seed,
                    "fold": result.settings.fold,
                    "clips": own.clips,
                    "accuracy": own.accuracy,
                    "accuracy_low": own.accuracy_low,
                    "accuracy_high": own.accuracy_high,
                    "loss": own.loss,
                    "run_id": result.run_id,
                }
            )
    return pd.DataFrame(rows)


def table(trials: Sequence[Trial]) -> pd.DataFrame:
    """One row a trial, the best first."""
    return pd.DataFrame([{"trial": trial.name, **metrics(trial), "p_value": trial.p_value} for trial in trials])


def metrics(trial: Trial) -> dict[str, float]:
    """The figures of one trial by name; shares are 0 to 1, the loss in nats, clips are distinct ones."""
    scores = trial.scores
    names = ("accuracy", "accuracy_low", "accuracy_high", "macro_f1", "min_class_recall", "loss", "calibration_error")
    return {
        "clips": trial.predictions["filename"].nunique(),
        "seeds": len(trial.by_seed),
        **{name: getattr(scores, name) for name in names},
        "accuracy_deviation": trial.deviation,
    }


def _trial(name: str, results: Sequence[Result], confidence: float) -> Trial:
    parts = []
    for result in results:
        part = result.predictions.copy()
        part.insert(0, "seed", result.settings.seed)
        part.insert(0, "trial", name)
        parts.append(part)
    predictions = pd.concat(parts, ignore_index=True)
    scores = score(*outputs(predictions), confidence)
    low, high = wilson_interval(scores.accuracy, predictions["filename"].nunique(), confidence)
    by_seed = {int(seed): float(own["correct"].mean()) for seed, own in predictions.groupby("seed")}
    return Trial(name, results, predictions, replace(scores, accuracy_low=low, accuracy_high=high), by_seed)


def _hits(trial: Trial) -> npt.NDArray[np.float64]:
    """The share of seeds that named each clip rightly, in the order of the clips' names."""
    hits: npt.NDArray[np.float64] = trial.predictions.groupby("filename")["correct"].mean().sort_index().to_numpy()
    return hits


def _p_value(first: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float:
    """McNemar's exact test; with several seeds the sign test of the clips, which it then is."""
    return compare(first > other, other > first).p_value
