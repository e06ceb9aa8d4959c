"""The step register: add a trained and evaluated model to the model registry."""

import io
from pathlib import Path

import soundfile

from audiocnn import audio
from audiocnn.classifier import Classifier
from audiocnn.data.clips import split
from audiocnn.errors import AudioCNNError
from components.register import card
from mlops import tracking
from mlops.artifacts import (
    AuditRecord,
    DatasetFolder,
    DatasetRecord,
    EvaluationFolder,
    Metrics,
    ModelFolder,
    RegistrationFolder,
    VersionRecord,
)
from mlops.runtime import sigterm_as_exit
from mlops.tracking.settings import RegisterSettings

CHALLENGER = "challenger"  # the alias of the latest registered version
EXAMPLE_SECONDS = 1  # length of the input example, which MLflow stores twice, as text


class RegisterError(AudioCNNError):
    """Folders that do not belong together."""


@sigterm_as_exit()
def register(
    model: Path, evaluation: Path, dataset: Path, settings: RegisterSettings, output: Path
) -> tracking.Version:
    """Register a model version and set the alias `challenger` to it.

    The same weights of the same MLflow run keep their version. `output` appears complete or not at all.
    """
    RegistrationFolder.check_output(output, [model, evaluation, dataset])
    classifier, data = ModelFolder(model).classifier(), DatasetFolder(dataset)
    run_id = ModelFolder(model).run().run_id
    metrics = _metrics(EvaluationFolder(evaluation), classifier)
    record = _dataset_record(data, classifier)
    audit = EvaluationFolder(evaluation).audit()
    text = card.render(settings.name, run_id, classifier, record, metrics, audit)
    version = tracking.find_version(settings.name, run_id, classifier.weights_sha256)
    if version is None:
        version = tracking.register_model(
            run_id,
            model,
            settings.name,
            classes=classifier.classes,
            example=_example(data, classifier),
            card=text,
            tags=_tags(classifier, record, audit),
            metrics=metrics.numbers(),
        )
        print(f"[register] {version.name} version {version.number} is registered", flush=True)
    else:
        tracking.set_model_card(version, text)
        print(f"[register] {version.name} version {version.number} already has these weights", flush=True)
    _log_dataset_reports(data, run_id)
    tracking.set_alias(version.name, CHALLENGER, version.number)
    with RegistrationFolder.create(output) as folder:
        folder.write(VersionRecord(name=version.name, version=version.number, run_id=run_id), text)
    return version


def _log_dataset_reports(dataset: DatasetFolder, run_id: str) -> None:
    """Log the reports on the data to the run, for reviewers of the version."""
    with tracking.resume_run(run_id) as run:
        for file in (dataset.report, dataset.findings):
            run.log_file(file, "dataset")


def _metrics(evaluation: EvaluationFolder, classifier: Classifier) -> Metrics:
    if evaluation.weights_sha256() != classifier.weights_sha256:
        raise RegisterError(
            f"{evaluation.path} is the evaluation of another model (SHA-256 differs); run the step evaluate on this one"
        )
    return evaluation.metrics()


def _dataset_record(dataset: DatasetFolder, classifier: Classifier) -> DatasetRecord:
    record, trained = dataset.record(), classifier.provenance["dataset"]["digest"]
    if record.digest != trained:
        raise RegisterError(
            f"{dataset.path}: the model was trained on another data set (digest {trained[:12]}, this one has "
            f"{record.digest[:12]}); use the folder that it was trained on"
        )
    return record


def _tags(classifier: Classifier, dataset: DatasetRecord, audit: AuditRecord | None) -> dict[str, str]:
    """Return the provenance of a version (data, code and weights), and its accuracy on the audit fold."""
    return {
        **({} if audit is None else {tracking.AUDIT_TAG: audit.summary()}),
        tracking.WEIGHTS_TAG: classifier.weights_sha256,
        "dataset_digest": dataset.digest,
        "dataset_source": dataset.source,
        "dataset_origin": dataset.origin,
        "test_fold": str(classifier.provenance["dataset"]["test_fold"]),
        "git_revision": classifier.provenance["git_revision"],
    }


def _example(dataset: DatasetFolder, classifier: Classifier) -> bytes:
    """Return the beginning of the first clip of the test fold as FLAC."""
    clips = dataset.clips()
    _, rows = split(clips, classifier.provenance["dataset"]["test_fold"])
    clip = audio.decode(dataset.audio / clips["filename"].iloc[rows[0]])
    content = io.BytesIO()
    soundfile.write(content, clip.samples[: EXAMPLE_SECONDS * clip.rate], clip.rate, format="FLAC")
    return content.getvalue()
