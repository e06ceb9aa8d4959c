"""Folder of the step aggregate: `metrics.json`, `predictions.csv`, `trainings.csv`, `trials.csv` and `report.html`."""

import pandas as pd

from audiocnn.config import NonNegative, PositiveInt
from mlops.artifacts.base_folder import read_table
from mlops.artifacts.evaluation_folder import METRICS, ScoreFolder, ScoreRecord

TRIALS = "trials.csv"
TRAININGS = "trainings.csv"
ACCURACY = dict.fromkeys(("accuracy", "accuracy_low", "accuracy_high", "loss"), float)


class AggregateMetrics(ScoreRecord):
    """Content of the step aggregate's `metrics.json`: the metrics of the best trial over all folds and seeds.

    Attributes:
        trial: name of the trial, empty for a cross-validation.
        clips: number of distinct clips.
        seeds: number of seeds.
        accuracy_deviation: standard deviation of the accuracy over the seeds, 0 for one seed.
    """

    trial: str
    seeds: PositiveInt
    accuracy_deviation: NonNegative


class AggregateFolder(ScoreFolder):
    """The results of all trainings of a cross-validation or sweep."""

    step = "aggregate"
    marker = TRIALS

    def metrics(self) -> AggregateMetrics:
        """Read `metrics.json`."""
        return self.read_record(METRICS, AggregateMetrics)

    def trials(self) -> pd.DataFrame:
        """Read the metrics of the trials, best first."""
        return read_table(self.path / TRIALS, {"trial": str, "clips": int, **ACCURACY, "p_value": float}, self.step)

    def trainings(self) -> pd.DataFrame:
        """Read the metrics of the trainings."""
        return read_table(
            self.path / TRAININGS, {"trial": str, "seed": int, "fold": int, "clips": int, **ACCURACY}, self.step
        )

    def write_tables(self, trials: pd.DataFrame, trainings: pd.DataFrame) -> None:
        """Write one row per trial, best first, and one row per training."""
        trials.to_csv(self.path / TRIALS, index=False)
        trainings.to_csv(self.path / TRAININGS, index=False)
