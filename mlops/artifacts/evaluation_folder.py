"""Folders of the steps evaluate and aggregate: metrics, predictions, tables and `report.html`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

import pandas as pd

from audiocnn import plots
from audiocnn.config import NonNegative, NonNegativeInt, PositiveInt, Share
from audiocnn.evaluation import Scores, class_table
from audiocnn.strict_model import StrictModel
from mlops.artifacts.base_folder import Folder, json_text, read_table
from mlops.artifacts.predictions import FILE as PREDICTIONS
from mlops.artifacts.predictions import Predictions

METRICS = "metrics.json"
CLASSES = "classes.csv"
INTERVALS = "intervals.csv"
SLICES = "slices.csv"
ROBUSTNESS = "robustness.csv"
WORST_CLIPS = "worst_clips"
MODEL = "evaluated_model.json"  # not in metrics.json, of which DVC shows every value
AUDIT = "audit.json"
TRIALS = "trials.csv"
TRAININGS = "trainings.csv"
ACCURACY = dict.fromkeys(("accuracy", "accuracy_low", "accuracy_high", "loss"), float)


class ScoreRecord(StrictModel):
    """The metrics of `audiocnn.evaluation.Scores`, which explains them, and the confidence level of the intervals."""

    clips: PositiveInt
    accuracy: Share
    accuracy_low: Share
    accuracy_high: Share
    balanced_accuracy: Share
    macro_f1: Share
    top3_accuracy: Share
    min_class_recall: Share
    loss: NonNegative
    brier_score: NonNegative
    calibration_error: Share
    confidence: Share

    @classmethod
    def of(cls, scores: Scores, **values: Any) -> Self:
        """Create a record from scores and the values of the other fields."""
        own = {name: getattr(scores, name) for name in cls.model_fields if hasattr(scores, name)}
        return cls(**(own | values))

    def numbers(self) -> dict[str, float]:
        return {name: value for name, value in self.to_dict().items() if isinstance(value, int | float)}


class Metrics(ScoreRecord):
    """Content of the step evaluate's `metrics.json`.

    Attributes:
        latency_ms: median from a file to its probabilities.
        unknown_share: of a calibrated model, the share of the test clips that are below the threshold of their class.
        answered_accuracy: accuracy on the other clips.
        left_out_auroc, left_out_fpr95: of a model that was trained without some classes, how well it tells the test
            clips of its classes from those of the others; see `audiocnn.novelty`.
        left_out_unknown: if it is calibrated too, the share of the clips of the others that are below the threshold.
    """

    latency_ms: NonNegative
    unknown_share: Share | None = None
    answered_accuracy: Share | None = None
    left_out_auroc: Share | None = None
    left_out_fpr95: Share | None = None
    left_out_unknown: Share | None = None


class AggregateMetrics(ScoreRecord):
    """Content of the step aggregate's `metrics.json`: the metrics of the best trial over all folds and seeds.

    Attributes:
        trial: name of the trial, empty for a cross-validation.
        clips: number of distinct clips.
        accuracy_deviation: standard deviation of the accuracy over the seeds, 0 for one seed.
    """

    trial: str
    seeds: PositiveInt
    accuracy_deviation: NonNegative


class AuditRecord(StrictModel):
    """Content of `audit.json`: the accuracy on a fold that no model is trained on or selected by, with its interval."""

    fold: NonNegativeInt
    clips: PositiveInt
    accuracy: Share
    accuracy_low: Share
    accuracy_high: Share
    confidence: Share

    def summary(self) -> str:
        return (
            f"{self.accuracy:.1%} ({self.confidence:.0%} interval {self.accuracy_low:.1%} to {self.accuracy_high:.1%}) "
            f"on {self.clips} clips of audit fold {self.fold}"
        )


class EvaluatedModel(StrictModel):
    """Content of `evaluated_model.json`: the SHA-256 digest of the weights."""

    weights_sha256: str


Scored = TypeVar("Scored", bound=ScoreRecord)


class ScoreFolder(Folder, Generic[Scored]):
    """Files that the steps evaluate and aggregate both write; `kind` is the type of `metrics.json`."""

    kind: type[Scored]

    def metrics(self) -> Scored:
        return self.read_record(METRICS, self.kind)

    def predictions(self) -> Predictions:
        return Predictions.read(self.path / PREDICTIONS, self.step)

    def classes(self) -> pd.DataFrame:
        """Read the table of precision, recall and F1 per class."""
        return read_table(self.path / CLASSES, {"class": str, "mistaken_for": str}, self.step)

    def write_scores(self, scores: Scores, classes: tuple[str, ...], predictions: Predictions, metrics: Scored) -> None:
        """Write metrics and their intervals, predictions, tables per class and the confusion matrix."""
        # Without metrics that do not apply to the model: `dvc metrics show` leaves out null.
        given = {name: value for name, value in metrics.to_dict().items() if value is not None}
        (self.path / METRICS).write_text(json_text(given), encoding="utf-8")
        intervals = [(name, getattr(scores, name), *ends) for name, ends in scores.intervals.items()]
        columns = ["metric", "value", "low", "high"]
        pd.DataFrame(intervals, columns=columns).to_csv(self.path / INTERVALS, index=False)
        predictions.write(self.path / PREDICTIONS)
        class_table(scores, classes).to_csv(self.path / CLASSES, index=False)
        pd.DataFrame(scores.confusion, columns=list(classes)).to_csv(self.path / "confusion.csv", index=False)
        (self.path / "confusion.png").write_bytes(plots.png(plots.confusion(scores.confusion, classes)))


class EvaluationFolder(ScoreFolder[Metrics]):
    """The metrics of one model on its test fold."""

    step = "evaluate"
    marker, kind = METRICS, Metrics

    def weights_sha256(self) -> str:
        return self.read_record(MODEL, EvaluatedModel).weights_sha256

    def audit(self) -> AuditRecord | None:
        """Read the accuracy on the audit fold; None without one."""
        return self.read_record(AUDIT, AuditRecord) if (self.path / AUDIT).is_file() else None

    def write_audit(self, record: AuditRecord) -> None:
        self.write_record(AUDIT, record)

    def write_model(self, weights_sha256: str) -> None:
        self.write_record(MODEL, EvaluatedModel(weights_sha256=weights_sha256))

    @property
    def worst_clips(self) -> Path:
        """Folder with the audio of the most confident errors."""
        return self.path / WORST_CLIPS

    def write_details(self, slices: pd.DataFrame, robustness: pd.DataFrame, worst_clips: Mapping[str, bytes]) -> None:
        """Write the accuracy by group of clips and on changed clips, and audio files by name."""
        slices.to_csv(self.path / SLICES, index=False)
        robustness.to_csv(self.path / ROBUSTNESS, index=False)
        self.worst_clips.mkdir()
        for name, content in worst_clips.items():
            (self.worst_clips / name).write_bytes(content)


class AggregateFolder(ScoreFolder[AggregateMetrics]):
    """The results of all trainings of a cross-validation or sweep."""

    step = "aggregate"
    marker, kind = TRIALS, AggregateMetrics

    def trials(self) -> pd.DataFrame:
        """Read the metrics of the trials, best first."""
        return read_table(self.path / TRIALS, {"trial": str, "clips": int, **ACCURACY, "p_value": float}, self.step)

    def trainings(self) -> pd.DataFrame:
        columns = {"trial": str, "seed": int, "fold": int, "clips": int, **ACCURACY}
        return read_table(self.path / TRAININGS, columns, self.step)

    def write_tables(self, trials: pd.DataFrame, trainings: pd.DataFrame) -> None:
        """Write one row per trial, best first, and one row per training."""
        trials.to_csv(self.path / TRIALS, index=False)
        trainings.to_csv(self.path / TRAININGS, index=False)
