"""What a model answers to sounds that it should not, or need not, recognize."""

from audiocnn.calibration import accepted
from audiocnn.classifier import Classifier
from audiocnn.data.clips import rows_of
from audiocnn.data.spectrogram_set import SpectrogramSet
from audiocnn.novelty import measure_novelty
from mlops.artifacts import Predictions


def unknown_metrics(
    classifier: Classifier, predictions: Predictions, data: SpectrogramSet, fold: int, batch_size: int
) -> dict[str, float]:
    """Return the metrics of unknown sounds; see `mlops.artifacts.Metrics`.

    Args:
        predictions: of the clips of the model's classes in the test fold `fold`.

    Returns:
        `unknown_share` and `answered_accuracy` of a calibrated model, and `left_out_auroc`, `left_out_fpr95` and
        `left_out_unknown` of one that was trained without some classes.
    """
    metrics: dict[str, float] = {}
    calibration, classes = classifier.calibration, classifier.classes
    if calibration is not None:
        answered = accepted(predictions.probabilities(), classes, calibration)
        metrics["unknown_share"] = float(1 - answered.mean())
        if answered.any():
            metrics["answered_accuracy"] = float(predictions.table["correct"].to_numpy()[answered].mean())
    rows = rows_of(data.clips, fold, classifier.provenance["train"].get("leave_out", ()))
    if len(rows):
        others = Predictions.predict(classifier, data, rows, batch_size)
        found = measure_novelty(predictions.probabilities().max(axis=1), others.probabilities().max(axis=1))
        metrics |= {"left_out_auroc": found.auroc, "left_out_fpr95": found.fpr95}
        if calibration is not None:
            metrics["left_out_unknown"] = float(1 - accepted(others.probabilities(), classes, calibration).mean())
    return metrics
