"""The work of the step register."""

import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from audiocnn import audio
from audiocnn.atomic import atomic_folder, check_output
from audiocnn.classifier import Classifier
from audiocnn.data.clips import read_clips, split
from audiocnn.errors import AudioCNNError
from components.register import card
from mlops import tracking
from mlops.runtime import sigterm_as_exit
from mlops.tracking.settings import RegisterSettings

CHALLENGER = "challenger"  # the alias of the version that was registered last
MARKER = "version.json"  # what shows that a folder is an output of this step
EXAMPLE_SECONDS = 1  # of sound in the package's input example; MLflow keeps it as text, twice


class RegisterError(AudioCNNError):
    """Folders that do not belong together, or lack what a version in the registry must say of itself."""


@sigterm_as_exit()
def register(
    model: Path, evaluation: Path, dataset: Path, settings: RegisterSettings, output: Path
) -> tracking.Version:
    """Make the model a version in the registry and point the alias `challenger` at it.

    The same model of the same run keeps its version when it is registered again. Writes version.json and card.md to
    `output`, which appears whole or not at all.

    Raises:
        RegisterError: the evaluation is not of this model, or the data set not the one that it was trained on.
        ModelError, DatasetError, TrackingError, OutputError: see there.
    """
    check_output(output, MARKER, [model, evaluation, dataset])
    classifier = Classifier.load(model)
    run_id = str(_read_json(model / "run.json").get("run_id") or "")
    if not run_id:
        raise RegisterError(f"{model / 'run.json'}: no run_id; register a folder that the step train wrote")
    metrics = _metrics(evaluation, classifier)
    described = _dataset(dataset, classifier)
    text = card.render(settings.name, run_id, classifier, described, metrics)
    version = tracking.find_version(settings.name, run_id, classifier.weights_sha256)
    if version is None:
        version = tracking.register_model(
            run_id,
            model,
            settings.name,
            classes=classifier.classes,
            example=_example(dataset, classifier),
            card=text,
            tags=_tags(classifier, described),
            metrics=metrics,
        )
        print(f"[register] {version.name} version {version.number} is registered", flush=True)
    else:
        tracking.describe_version(version, text)
        print(f"[register] these weights are {version.name} version {version.number} already", flush=True)
    with tracking.resume_run(run_id) as run:  # who reviews the version looks at what it was trained on
        for name in ("report.html", "findings.csv"):
            run.file(dataset / name, "dataset")
    tracking.set_alias(version.name, CHALLENGER, version.number)
    with atomic_folder(output, MARKER) as part:
        record = {"name": version.name, "version": version.number, "run_id": run_id}
        (part / MARKER).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        (part / "card.md").write_text(text, encoding="utf-8")
    return version


def _metrics(evaluation: Path, classifier: Classifier) -> dict[str, float]:
    metrics = _read_json(evaluation / "metrics.json")
    if metrics.get("model_sha256") != classifier.weights_sha256:
        raise RegisterError(
            f"{evaluation / 'metrics.json'}: these figures were measured on another model: its SHA-256 differs; "
            "run the step evaluate on this model"
        )
    missing = [name for name in card.FIGURES if not isinstance(metrics.get(name), int | float)]
    if missing:
        raise RegisterError(f"{evaluation / 'metrics.json'}: {missing[0]} is missing; run the step evaluate again")
    numbers = {name: value for name, value in metrics.items() if isinstance(value, int | float)}
    for name, value in numbers.items():
        if not math.isfinite(value):
            raise RegisterError(f"{evaluation / 'metrics.json'}: {name} is {value}; a version needs finite figures")
    return numbers


def _dataset(dataset: Path, classifier: Classifier) -> dict[str, Any]:
    described = _read_json(dataset / "dataset.json")
    trained = classifier.provenance.get("dataset", {}).get("digest")
    if not trained or described.get("digest") != trained:
        raise RegisterError(
            f"{dataset}: is data set {str(described.get('digest'))[:12]}, the model was trained on "
            f"{str(trained)[:12]}; give the folder that it was trained on"
        )
    return described


def _tags(classifier: Classifier, described: Mapping[str, Any]) -> dict[str, str]:
    """Where the version comes from: data, code, weights."""
    return {
        tracking.WEIGHTS_TAG: classifier.weights_sha256,
        "dataset_digest": str(described["digest"]),
        "dataset_source": str(described["source"]),
        "dataset_origin": str(described.get("origin", "")),
        "test_fold": str(classifier.provenance["dataset"].get("test_fold", "")),
        "git_revision": str(classifier.provenance.get("git_revision", "")),
    }


def _example(dataset: Path, classifier: Classifier) -> bytes:
    """The start of a clip that the model has not learnt from, as FLAC."""
    import soundfile

    clips = read_clips(dataset / "clips.csv")
    _, rows = split(clips, int(classifier.provenance["dataset"]["test_fold"]))
    sound = audio.decode(dataset / "audio" / str(clips["filename"].iloc[rows[0]]))
    content = io.BytesIO()
    soundfile.write(content, sound.samples[: EXAMPLE_SECONDS * sound.rate], sound.rate, format="FLAC")
    return content.getvalue()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RegisterError(f"{path}: cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise RegisterError(f"{path}: expected an object, found {type(content).__name__}")
    return content
