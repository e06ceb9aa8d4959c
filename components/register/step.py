"""The step register: add a trained and evaluated model to the model registry."""

import io
from collections.abc import Mapping
from pathlib import Path

import soundfile

from audiocnn import audio
from audiocnn.classifier import Classifier
from audiocnn.data.clips import rows_of
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
    Registration,
    RegistrationFolder,
    VersionRecord,
)
from mlops.kubeflow_run import RUN_TAG, URL_TAG
from mlops.provenance import DIRTY, utc_now
from mlops.register_settings import RegisterSettings
from mlops.runtime import sigterm_as_exit

SHORT = 12  # characters of a digest or revision in a tag
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
    run_tags = tracking.resume_run(run_id).tags()
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
            weights_sha256=classifier.weights_sha256,
            tags=_tags(classifier, record, run_tags),
            metrics=metrics.numbers(),
        )
        print(f"[register] {version} is registered", flush=True)
    else:
        print(f"[register] {version} already has these weights", flush=True)
    with tracking.resume_run(run_id) as run:
        for file in (data.report, data.findings):
            run.log_file(file, "dataset")
    tracking.write_registration(version, _registration(version, classifier, record, metrics, audit, run_tags), text)
    tracking.write_page(version.name, version.number)
    tracking.set_alias(version.name, CHALLENGER, version.number)
    with RegistrationFolder.create(output) as folder:
        folder.write(VersionRecord(name=version.name, version=version.number, run_id=run_id), text)
    return version


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


def _tags(classifier: Classifier, dataset: DatasetRecord, run_tags: Mapping[str, str]) -> dict[str, str]:
    """Return the tags of a version. They are few and short, because MLflow's pages show all of them."""
    commit, changed, _ = classifier.provenance["git_revision"].partition(DIRTY)
    return {
        tracking.STATUS_TAG: "pending",
        "dataset": f"{dataset.source} {dataset.digest[:SHORT]}",
        "git_revision": commit[:SHORT] + changed,
        **({"kfp_run": run_tags[RUN_TAG]} if RUN_TAG in run_tags else {}),
    }


def _registration(
    version: tracking.Version,
    classifier: Classifier,
    dataset: DatasetRecord,
    metrics: Metrics,
    audit: AuditRecord | None,
    run_tags: Mapping[str, str],
) -> Registration:
    return Registration(
        name=version.name,
        version=version.number,
        run_id=version.run_id,
        registered_at=utc_now(),
        registered_by=tracking.user(),
        weights_sha256=classifier.weights_sha256,
        dataset=dataset,
        training=classifier.provenance,
        spectrograms=classifier.settings.to_dict(),
        code_digest=run_tags.get("code_digest", ""),
        kubeflow_run=run_tags.get(RUN_TAG, ""),
        kubeflow_url=run_tags.get(URL_TAG, ""),
        metrics=metrics,
        audit=audit,
    )


def _example(dataset: DatasetFolder, classifier: Classifier) -> bytes:
    """Return the beginning of the first clip of the test fold as FLAC."""
    clips = dataset.clips()
    rows = rows_of(clips, classifier.provenance["dataset"]["test_fold"], classifier.classes)
    clip = audio.decode(dataset.audio / clips["filename"].iloc[rows[0]])
    content = io.BytesIO()
    soundfile.write(content, clip.samples[: EXAMPLE_SECONDS * clip.rate], clip.rate, format="FLAC")
    return content.getvalue()
