"""The step evaluate: measure a trained classifier on the fold that it was not trained on."""

from pathlib import Path

from audiocnn.classifier import Classifier, ModelError
from audiocnn.config import EvaluateSettings, fold_role
from audiocnn.data.clips import rows_of
from audiocnn.data.spectrogram_set import SpectrogramSet
from audiocnn.device import memory_errors, resolve_device
from audiocnn.latency import latency_ms
from components.evaluate import report
from components.evaluate.report import Evaluation
from components.evaluate.robustness import robustness_table
from components.evaluate.slices import slice_table
from components.evaluate.unknown import unknown_metrics
from components.evaluate.worst_clips import worst_clips
from mlops import tracking
from mlops.artifacts import AuditRecord, DatasetFolder, EvaluationFolder, Metrics, ModelFolder, Predictions
from mlops.runtime import sigterm_as_exit

LESS_MEMORY = "decrease evaluate.batch_size, or set evaluate.device=cpu"


@sigterm_as_exit()
@memory_errors(LESS_MEMORY)
def evaluate(model: Path, spectrograms: Path, dataset: Path, settings: EvaluateSettings, output: Path) -> Evaluation:
    """Evaluate a model on the fold that it was not trained on, and add the results to its MLflow run.

    The spectrograms have to be those that the model was trained on, and `dataset` the folder that they were made of; it
    has the audio. `output` appears complete or not at all.
    """
    EvaluationFolder.check_output(output, [model, spectrograms, dataset])
    trained, data, clips = ModelFolder(model), SpectrogramSet.open(spectrograms), DatasetFolder(dataset)
    classifier = trained.classifier(resolve_device(settings.device))
    run_id, history = trained.run().run_id, trained.history()
    _check_same_data(classifier, data, clips)
    fold = classifier.provenance["dataset"]["test_fold"]
    rows = rows_of(data.clips, fold, classifier.classes)
    predictions = Predictions.predict(classifier, data, rows, settings.batch_size)
    scores = predictions.scores(settings.confidence)
    metrics = Metrics.of(
        scores,
        confidence=settings.confidence,
        latency_ms=latency_ms(trained.classifier()),
        **unknown_metrics(classifier, predictions, data, fold, settings.batch_size),
    )
    evaluation = Evaluation(
        scores,
        predictions,
        metrics,
        slice_table(predictions, data, rows, settings.confidence),
        robustness_table(classifier, predictions, clips.audio, settings.robustness_clips, settings.confidence),
        worst_clips(predictions, data, rows, clips.audio, settings.worst_clips),
    )
    audit = _audit(classifier, data, settings)
    role = fold_role(classifier.provenance["train"].get("hold_out", ()))
    print(
        f"[evaluate] accuracy {scores.accuracy:.1%} on {scores.clips} clips of {role} {fold} "
        f"({settings.confidence:.0%} interval {scores.accuracy_low:.1%} to {scores.accuracy_high:.1%})",
        flush=True,
    )
    with EvaluationFolder.create(output) as folder:
        folder.write_scores(scores, classifier.classes, predictions, metrics)
        folder.write_model(classifier.weights_sha256)
        if audit is not None:
            folder.write_audit(audit)
        folder.write_details(
            evaluation.slices,
            evaluation.robustness,
            {clip["mp3_name"]: clip["mp3"] for clip in evaluation.worst_clips},
        )
        folder.report.write_text(report.render(evaluation, classifier, history), encoding="utf-8")
        _log(folder, metrics, run_id)
    return evaluation


def _check_same_data(classifier: Classifier, data: SpectrogramSet, clips: DatasetFolder) -> None:
    trained, given = classifier.provenance["dataset"]["digest"], data.spec["dataset"]["digest"]
    if trained != given:
        # The test fold of another data set may contain clips that the model was trained on.
        raise ModelError(
            f"the model was trained on data set {trained[:12]}, the spectrograms are of {given[:12]}; use the "
            "spectrograms that the model was trained on"
        )
    if (audio_of := clips.record().digest) != given:
        raise ModelError(
            f"{clips.path} is data set {audio_of[:12]}, the spectrograms are of {given[:12]}; use the folder that they "
            "were made of"
        )
    if classifier.settings != data.settings:
        raise ModelError(
            "the model and the spectrograms have different front-end settings; run the step spectrograms with the "
            "model's settings"
        )


def _audit(classifier: Classifier, data: SpectrogramSet, settings: EvaluateSettings) -> AuditRecord | None:
    """Return the accuracy on the audit fold. It is not logged as a metric, so that models are not ranked by it."""
    fold = settings.audit_fold
    if fold is None:
        return None
    if fold not in classifier.provenance["train"].get("hold_out", ()):
        raise ModelError(
            f"evaluate.audit_fold: fold {fold} was not held out of the model's training; train it with "
            f"train.hold_out=[{fold}]"
        )
    rows = rows_of(data.clips, fold, classifier.classes)
    scores = Predictions.predict(classifier, data, rows, settings.batch_size).scores(settings.confidence)
    return AuditRecord(
        fold=fold,
        clips=scores.clips,
        accuracy=scores.accuracy,
        accuracy_low=scores.accuracy_low,
        accuracy_high=scores.accuracy_high,
        confidence=settings.confidence,
    )


def _log(folder: EvaluationFolder, metrics: Metrics, run_id: str) -> None:
    with tracking.resume_run(run_id) as run:
        run.log_metrics({f"test.{name}": value for name, value in metrics.numbers().items()})
        run.log_table(folder.classes(), "evaluation/classes.json")
        for file in sorted(folder.path.iterdir()):
            run.log_file(file, f"evaluation/{file.name}" if file.is_dir() else "evaluation")
