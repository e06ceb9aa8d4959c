"""The work of the step evaluate."""

import json
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from audiocnn import plots
from audiocnn.atomic import atomic_folder, check_output
from audiocnn.classifier import Classifier, ModelError
from audiocnn.config import EvaluateSettings
from audiocnn.data.batches import Batches, batches
from audiocnn.data.clips import split
from audiocnn.data.spectrogram_set import SpectrogramSet
from audiocnn.device import resolve_device
from audiocnn.evaluation import FloatArray, Scores, class_table, score
from components.evaluate import report
from mlops import tracking
from mlops.runtime import sigterm_as_exit

LATENCY_RUNS = 15
MARKER = "metrics.json"  # what shows that a folder is an output of this step


@dataclass(frozen=True)
class Evaluation:
    """One model on its test fold: the scores, one row a clip in `predictions`, and the figures of metrics.json."""

    scores: Scores
    predictions: pd.DataFrame
    metrics: dict[str, Any]


@sigterm_as_exit()
def evaluate(model: Path, spectrograms: Path, settings: EvaluateSettings, output: Path) -> Evaluation:
    """Score the model on the fold that it was not trained on, and add the results to its MLflow run.

    Writes metrics.json, predictions.csv, classes.csv, confusion.csv, confusion.png and report.html to `output`, which
    appears whole or not at all.

    Raises:
        ModelError: the model cannot be read, or was trained on other data or another front end than `spectrograms`.
        DatasetError, TrackingError, OutputError: see there.
    """
    check_output(output, MARKER, [model, spectrograms])
    data = SpectrogramSet.open(spectrograms)
    device = resolve_device(settings.device)
    classifier = Classifier.load(model, device)
    _check_same_data(classifier, data)
    _, rows = split(data.clips, classifier.provenance["dataset"]["test_fold"])
    probabilities = _probabilities(classifier, batches(data, rows, settings.batch_size, device))
    scores = score(probabilities, data.labels[rows], settings.confidence)
    metrics = {**_metrics(scores), "latency_ms": _latency_ms(model), "confidence": settings.confidence}
    metrics["model_sha256"] = classifier.weights_sha256
    evaluation = Evaluation(scores, _predictions(data, rows, probabilities), metrics)
    print(
        f"[evaluate] accuracy {scores.accuracy:.1%} on {scores.clips} clips of the test fold "
        f"({scores.accuracy_low:.1%} to {scores.accuracy_high:.1%})",
        flush=True,
    )
    with atomic_folder(output, MARKER) as part:
        _write(evaluation, classifier, part)
        page = report.render(evaluation, classifier, data, rows, model, settings)
        (part / "report.html").write_text(page, encoding="utf-8")
        _log(part, metrics, json.loads((model / "run.json").read_text(encoding="utf-8"))["run_id"])
    return evaluation


def _check_same_data(classifier: Classifier, data: SpectrogramSet) -> None:
    trained, given = classifier.provenance["dataset"]["digest"], data.spec["dataset"]["digest"]
    if trained != given:
        # Another data set may hold the training clips in its test fold: that score would mean nothing.
        raise ModelError(f"the model was trained on data set {trained[:12]}, the spectrograms are of {given[:12]}")
    if classifier.settings != data.settings:
        raise ModelError("the model's front-end settings are not those of the spectrograms; run spectrograms again")


def _probabilities(classifier: Classifier, clips: Batches) -> FloatArray:
    parts = [classifier.classify_spectrograms(spectrograms).cpu() for spectrograms, _ in clips.in_order()]
    values: FloatArray = torch.cat(parts).double().numpy()
    return values


def _predictions(data: SpectrogramSet, rows: Any, probabilities: FloatArray) -> pd.DataFrame:
    classes = np.array(data.classes)
    said = probabilities.argmax(axis=1)
    table = data.clips.iloc[rows][["filename", "md5", "fold", "category"]].reset_index(drop=True)
    table["predicted"] = classes[said]
    table["correct"] = (said == data.labels[rows]).astype(int)
    table["confidence"] = probabilities.max(axis=1)
    return pd.concat([table, pd.DataFrame(probabilities, columns=[f"p:{name}" for name in classes])], axis=1)


def _metrics(scores: Scores) -> dict[str, Any]:
    names = ("clips", "accuracy", "accuracy_low", "accuracy_high", "macro_f1", "min_class_recall", "loss")
    return {**{name: getattr(scores, name) for name in names}, "calibration_error": scores.calibration_error}


def _latency_ms(model: Path) -> float:
    """Median milliseconds from one waveform to its probabilities on one CPU thread: what one serving worker needs."""
    classifier = Classifier.load(model, "cpu")
    waveform = torch.randn((1, classifier.settings.samples), generator=torch.Generator().manual_seed(0)) / 10
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        times = []
        for _ in range(LATENCY_RUNS):
            start = time.perf_counter()
            classifier.classify(waveform)
            times.append(1000 * (time.perf_counter() - start))
    finally:
        torch.set_num_threads(threads)
    return statistics.median(times)


def _write(evaluation: Evaluation, classifier: Classifier, folder: Path) -> None:
    scores, classes = evaluation.scores, classifier.classes
    (folder / MARKER).write_text(json.dumps(evaluation.metrics, indent=2) + "\n", encoding="utf-8")
    evaluation.predictions.to_csv(folder / "predictions.csv", index=False, float_format="%.6f")
    class_table(scores, classes).to_csv(folder / "classes.csv", index=False)
    pd.DataFrame(scores.confusion, columns=list(classes)).to_csv(folder / "confusion.csv", index=False)
    (folder / "confusion.png").write_bytes(plots.png(plots.confusion(scores.confusion, classes)))


def _log(folder: Path, metrics: dict[str, Any], run_id: str) -> None:
    with tracking.resume_run(run_id) as run:
        run.metrics({f"test.{name}": value for name, value in metrics.items() if isinstance(value, int | float)})
        run.table(pd.read_csv(folder / "classes.csv"), "evaluation/classes.json")
        for file in sorted(folder.iterdir()):
            run.file(file, "evaluation")
