"""The model registry: versions, their aliases and tags, and their way back to disk."""

import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from audiocnn.atomic import atomic_folder
from audiocnn.classifier import METADATA_FILE
from mlops.tracking import package as tracking_package
from mlops.tracking.server import Server, TrackingError, server, shown

WEIGHTS_TAG = "weights_sha256"  # of a version: the digest of its weights, as model.json names it
CARD_TAG = "model_json_sha256"  # of a version: the digest of model.json, which names classes and settings
PACKAGE_TAG = "logged_model"  # of a version: MLflow's id of the package, which a SQL registry forgets
RUN_TAGS = ("code_digest",)  # what a version takes over from the run that trained it
CARD_LENGTH = 5000  # MLflow's limit for a version's description


@dataclass(frozen=True)
class Version:
    """One version in the registry: `models:/name/number`, the run that made it, its tags."""

    name: str
    number: int
    run_id: str
    tags: dict[str, str] = field(default_factory=dict)


def register_model(
    run_id: str,
    model: Path,
    name: str,
    *,
    classes: Sequence[str],
    example: bytes,
    card: str,
    tags: Mapping[str, str],
    metrics: Mapping[str, float],
) -> Version:
    """A new version of the model `name`: the folder `model` as an MLflow package, logged to the run that trained it.

    Args:
        example: a sound file that shows how the model is asked.
        card: the model card, Markdown, at most 5,000 characters; it becomes the version's description.
        metrics: finite numbers that stand at the model in MLflow.
    Raises:
        TrackingError: MLflow refuses or does not answer; no version is left then.
    """
    if len(card) > CARD_LENGTH:
        raise TrackingError(f"the model card of {name!r} has {len(card)} characters; MLflow keeps {CARD_LENGTH}")
    at = server()
    run = at.call(at.client.get_run, run_id)
    taken_over = {key: run.data.tags[key] for key in RUN_TAGS if key in run.data.tags}
    tags = {**taken_over, **tags, CARD_TAG: hashlib.sha256((model / METADATA_FILE).read_bytes()).hexdigest()}
    model_id, place = _log_package(at, run, model, name, classes, example, tags, metrics)
    if at.found(at.client.get_registered_model, name) is None:
        _create_registered_model(at, name)
    made = at.call(
        at.client.create_model_version,
        name,
        place,
        run_id,
        tags={**tags, PACKAGE_TAG: model_id},
        description=card,
        model_id=model_id,
    )
    link = json.dumps([{"name": name, "version": made.version}])
    at.call(at.client.set_logged_model_tags, model_id, {"mlflow.modelVersions": link})
    return _version(made)


def find_version(name: str, run_id: str, weights_sha256: str) -> Version | None:
    """The version that already holds these weights of that run, the oldest if there are several; else None."""
    at = server()
    known = at.found(at.client.search_model_versions, f"name = '{name}' and run_id = '{run_id}'") or []
    same = [_version(item) for item in known if item.tags.get(WEIGHTS_TAG) == weights_sha256]
    return min(same, key=lambda version: version.number, default=None)


def describe_version(version: Version, card: str) -> None:
    """Replace the version's model card."""
    at = server()
    at.call(at.client.update_model_version, version.name, str(version.number), card)


def version_by_alias(name: str, alias: str) -> Version | None:
    """The version that an alias points to; None where the model or the alias does not exist."""
    at = server()
    known = at.found(at.client.get_model_version_by_alias, name, alias)
    return None if known is None else _version(known)


def get_version(name: str, number: int) -> Version:
    """One version.

    Raises:
        TrackingError: there is none of that number.
    """
    at = server()
    known = at.found(at.client.get_model_version, name, str(number))
    if known is None:
        raise TrackingError(f"MLflow at {shown(at.uri)}: the model {name!r} has no version {number}")
    return _version(known)


def set_alias(name: str, alias: str, number: int) -> None:
    """Point an alias at a version; it leaves the one it pointed to before."""
    at = server()
    at.put(at.client.set_registered_model_alias, name, alias, str(number))


def delete_alias(name: str, alias: str) -> None:
    """Remove an alias, wherever it points."""
    at = server()
    at.call(at.client.delete_registered_model_alias, name, alias)


def tag_version(name: str, number: int, tags: Mapping[str, str]) -> None:
    """Set tags of a version, replacing those of the same name."""
    at = server()
    for key, value in tags.items():
        at.put(at.client.set_model_version_tag, name, str(number), key, str(value))


def tag_model(name: str, tags: Mapping[str, str]) -> None:
    """Set tags of the registered model itself, at most 5,000 characters each."""
    at = server()
    for key, value in tags.items():
        at.put(at.client.set_registered_model_tag, name, key, str(value))


def model_tags(name: str) -> dict[str, str]:
    """Tags of the registered model itself; none where there is no such model."""
    at = server()
    known = at.found(at.client.get_registered_model, name)
    return {} if known is None else dict(known.tags)


def download_model(version: Version, folder: Path) -> Path:
    """Fetch the model folder as training wrote it into `folder`, which appears whole or not at all; returns `folder`.

    Raises:
        TrackingError: it is not there, or its weights, classes or settings are not those that were registered.
    """
    import mlflow.artifacts

    at = server()
    place = at.call(at.client.get_model_version_download_uri, version.name, str(version.number))
    wanted = f"{place}/artifacts/{tracking_package.ARTIFACT}"
    with tempfile.TemporaryDirectory() as scratch, atomic_folder(folder) as part:
        try:
            got = at.call(mlflow.artifacts.download_artifacts, wanted, dst_path=scratch, tracking_uri=at.uri)
        except OSError as error:
            raise TrackingError(f"the files of {version.name} version {version.number} are gone: {error}") from error
        shutil.copytree(got, part, dirs_exist_ok=True)
        _check_digest(version, part)
    return folder


def _check_digest(version: Version, folder: Path) -> None:
    # Classifier.load holds the weights against model.json; this holds model.json against what was registered.
    card = (folder / METADATA_FILE).read_bytes()
    try:
        stated = json.loads(card).get("weights_sha256")
    except (ValueError, AttributeError):
        stated = "damaged"
    found = {WEIGHTS_TAG: stated, CARD_TAG: hashlib.sha256(card).hexdigest()}
    for tag, what in ((WEIGHTS_TAG, "weights"), (CARD_TAG, "classes or settings (model.json)")):
        if version.tags.get(tag, found[tag]) != found[tag]:
            raise TrackingError(
                f"{version.name} version {version.number} was registered with other {what} than MLflow now holds: "
                "its SHA-256 differs; do not serve it, register the model again"
            )


def _log_package(
    at: Server,
    run: Any,
    model: Path,
    name: str,
    classes: Sequence[str],
    example: bytes,
    tags: Mapping[str, str],
    metrics: Mapping[str, float],
) -> tuple[str, str]:
    """Upload the package as an output of the run; returns MLflow's id of it and where its files are."""
    from mlflow.entities import LoggedModelOutput, Metric

    run_id = str(run.info.run_id)
    logged = at.call(
        at.client.create_logged_model,
        run.info.experiment_id,
        name,
        run_id,
        dict(tags),
        dict(run.data.params),
        "classifier",
    )
    model_id = str(logged.model_id)
    done = False
    try:
        with tempfile.TemporaryDirectory() as scratch:
            package = Path(scratch, "package")
            tracking_package.write(model, package, classes, example, run_id, model_id)
            at.call(at.client.log_model_artifacts, model_id, str(package))
        done = True
    finally:
        at.call(at.client.finalize_logged_model, model_id, "READY" if done else "FAILED")
    at.call(at.client.log_outputs, run_id, [LoggedModelOutput(model_id, 0)])
    now = int(time.time() * 1000)
    figures = [Metric(key, float(value), now, 0, model_id=model_id, run_id=run_id) for key, value in metrics.items()]
    at.call(at.client.log_batch, run_id, metrics=figures)
    # Not `models:/<id>`: MLflow would look that up at its process-wide URI, which need not be this server's.
    return model_id, str(logged.artifact_location)


def _create_registered_model(at: Server, name: str) -> None:
    try:
        at.call(at.client.create_registered_model, name, description="Names the sound in a clip.")
    except TrackingError:
        # Somebody else may have made it in between; if not, the error stands.
        if at.found(at.client.get_registered_model, name) is None:
            raise


def _version(known: Any) -> Version:
    return Version(str(known.name), int(known.version), str(known.run_id), dict(known.tags))
