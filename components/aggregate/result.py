"""The result of the step aggregate."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from components.aggregate.trials import Trial
from mlops.artifacts import AggregateMetrics


@dataclass(frozen=True)
class Aggregate:
    """The results of all trainings.

    Attributes:
        trials: the best first; a cross-validation has one.
        trainings: one row per training.
        metrics: of the best trial.
    """

    trials: Sequence[Trial]
    trainings: pd.DataFrame
    metrics: AggregateMetrics

    @property
    def best(self) -> Trial:
        """The best trial."""
        return self.trials[0]
