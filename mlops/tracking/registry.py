"""The model registry: versions with their tags and aliases, and the download of a version."""

import logging
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import audiocnn
from audiocnn.atomic import atomic_folder
from mlops.tracking import manifest, signature
from mlops.tracking.connection import TrackingError, connect, redact
from mlops.tracking.version import Version

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

CHAMPION = "champion"  # the alias of the version to serve
STATUS_TAG = "validation_status"  # of a version: `pending`, `approved` or `rejected`; a person may set it in MLflow
WEIGHTS = "weights_sha256"  # parameter of an MLflow model: SHA-256 digest of its weights
ARTIFACT = "model"  # name of the model folder in the artifacts of the MLflow model
REQUIREMENTS = (
    "mlflow",
    "torch",
    "torchaudio",
    "numpy",
    "pandas",
    "pydantic",
    "soundfile",
    "soxr",
    "safetensors",
    "pyyaml",
)


def register_model(
    run_id: str,
    model: Path,
    name: str,
    *,
    classes: Sequence[str],
    example: bytes,
    weights_sha256: str,
    tags: Mapping[str, str],
    metrics: Mapping[str, float],
) -> Version:
    """Log the folder `model` as an MLflow model of its training run, and register it as a new version of `name`.

    The MLflow model contains the library's code, so it can be loaded where this project is not installed. Its code is
    loaded from a file ("models from code"); nothing is pickled.

    Args:
        example: a sound file, stored as the input example.
        weights_sha256: digest of the weights, by which `find_version` finds the version again.
        tags: of the version.
        metrics: finite numbers to show with the model.
    Raises:
        SigningError: the key of AUDIOCNN_SIGNING_KEY cannot be used.
    """
    import mlflow

    connection = connect()
    client = connection.client
    run = connection.call(client.get_run, run_id)
    files, signed = manifest.make(model), signature.sign(model)
    params = {**run.data.params, WEIGHTS: weights_sha256, manifest.PARAMETER: manifest.digest(files)}
    logged = connection.call(
        client.create_logged_model, run.info.experiment_id, name, run_id, dict(tags), params, "classifier"
    )
    with _mlflow_model(model, classes, example) as content, _without_bytecode():
        # Model.log instead of mlflow.pyfunc.log_model: it takes the id of a run, which may have ended.
        connection.call(
            mlflow.models.Model.log, None, flavor=mlflow.pyfunc, run_id=run_id, model_id=logged.model_id, **content
        )
        manifest.store(logged.model_id, files)
        signature.store(logged.model_id, signed)
        connection.call(mlflow.log_metrics, dict(metrics), step=0, run_id=run_id, model_id=logged.model_id)
        made = connection.call(mlflow.register_model, f"models:/{logged.model_id}", name, tags=dict(tags))
    return _version(made)


@contextmanager
def _without_bytecode() -> Iterator[None]:
    """Keep Python from writing bytecode: MLflow imports the model's code where it is about to be uploaded."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before


def find_version(name: str, run_id: str, weights_sha256: str) -> Version | None:
    """Return the first version with these weights from that run; None if there is none."""
    connection = connect()
    found = connection.find(connection.client.search_model_versions, f"name = '{name}' and run_id = '{run_id}'") or []
    versions = [version for version in map(_version, found) if recorded_weights(version) == weights_sha256]
    return min(versions, key=lambda version: version.number, default=None)


def recorded_weights(version: Version) -> str:
    """Return the SHA-256 digest of the weights that were registered; empty for a version of another kind."""
    return manifest.model_parameter(version, WEIGHTS)


def list_versions(name: str) -> list[Version]:
    """Return all versions of a registered model, oldest first; none if it does not exist."""
    connection = connect()
    found = connection.call(connection.client.search_model_versions, f"name = '{name}'")
    return sorted(map(_version, found), key=lambda version: version.number)


def versions_with_tag(name: str, key: str, value: str) -> list[Version]:
    connection = connect()
    query = f"name = '{name}' and tags.`{key}` = '{value}'"
    return [_version(item) for item in connection.call(connection.client.search_model_versions, query)]


def version_by_alias(name: str, alias: str) -> Version | None:
    """Return the version that an alias points to; None if the model or the alias does not exist."""
    connection = connect()
    found = connection.find(connection.client.get_model_version_by_alias, name, alias)
    return None if found is None else _version(found)


def champion_number(name: str) -> int | None:
    """Return the number of the version under the alias `champion`; None if there is none."""
    found = version_by_alias(name, CHAMPION)
    return None if found is None else found.number


def get_version(name: str, number: int) -> Version:
    """Return a version.

    Raises:
        TrackingError: it does not exist.
    """
    connection = connect()
    found = connection.find(connection.client.get_model_version, name, str(number))
    if found is None:
        raise TrackingError(f"MLflow at {redact(connection.uri)}: the model {name!r} has no version {number}")
    return _version(found)


def set_alias(name: str, alias: str, number: int) -> None:
    connection = connect()
    connection.upsert(connection.client.set_registered_model_alias, name, alias, str(number))


def delete_alias(name: str, alias: str) -> None:
    """Remove an alias, if it exists."""
    connection = connect()
    connection.call(connection.client.delete_registered_model_alias, name, alias)


def tag_version(name: str, number: int, tags: Mapping[str, str]) -> None:
    connection = connect()
    for key, value in tags.items():
        connection.upsert(connection.client.set_model_version_tag, name, str(number), key, str(value))


def delete_model_tag(name: str, key: str) -> None:
    """Delete a tag of a registered model, if it exists."""
    connection = connect()
    if key in model_tags(name):
        connection.find(connection.client.delete_registered_model_tag, name, key)


def model_tags(name: str) -> dict[str, str]:
    """Return the tags of a registered model; none if it does not exist."""
    connection = connect()
    found = connection.find(connection.client.get_registered_model, name)
    return {} if found is None else dict(found.tags)


def download_model(version: Version, folder: Path) -> Path:
    """Download the model folder of a version to the new folder `folder`, and verify it.

    Raises:
        DamagedVersionError: the files differ from those that were registered, there is no manifest, or
            AUDIOCNN_VERIFY_KEY is set and there is no signature by its key.
        SigningError: this key cannot be used.
        TrackingError: the files cannot be downloaded.
    """
    with atomic_folder(folder) as part:
        download_unverified(version, part)
        manifest.verify_version(version, part)
        signature.verify_version(version, part)
    return folder


def verify_files(version: Version) -> None:
    """Download and verify the model folder of a version as `download_model` does, and keep nothing."""
    with tempfile.TemporaryDirectory() as scratch:
        download_model(version, Path(scratch, ARTIFACT))


def download_unverified(version: Version, folder: Path) -> None:
    """Download the model folder of a version into the existing folder `folder`, without verifying it.

    Raises:
        TrackingError: the files cannot be downloaded.
    """
    with tempfile.TemporaryDirectory() as scratch:
        try:
            downloaded = download_artifact(version, f"artifacts/{ARTIFACT}", scratch)
        except (OSError, TrackingError) as error:
            raise TrackingError(
                f"the files of {version} cannot be downloaded: {error}; check the artifact store"
            ) from error
        shutil.copytree(downloaded, folder, dirs_exist_ok=True)


def download_artifact(version: Version, path: str, folder: str) -> Path:
    """Download a file or folder of the MLflow model behind a version into `folder`; return where it is."""
    import mlflow.artifacts

    connection = connect()
    uri = connection.call(connection.client.get_model_version_download_uri, version.name, str(version.number))
    download = mlflow.artifacts.download_artifacts
    return Path(connection.call(download, f"{uri}/{path}", dst_path=folder, tracking_uri=connection.uri))


@contextmanager
def _mlflow_model(model: Path, classes: Sequence[str], example: bytes) -> Iterator[dict[str, Any]]:
    """Yield the arguments of mlflow.pyfunc.save_model; the files that they refer to exist while the block runs."""
    import pandas as pd
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    logging.getLogger("mlflow.pyfunc").setLevel(logging.WARNING)
    logging.getLogger("mlflow.utils.environment").setLevel(logging.ERROR)  # it warns of environments without pip
    numbers = [ColSpec(DataType.double, name) for name in ("confidence", *(f"p:{name}" for name in classes))]
    outputs = Schema([*(ColSpec(DataType.string, name) for name in ("class", "label")), *numbers])
    search_path = sys.path
    with tempfile.TemporaryDirectory() as scratch:
        library = Path(scratch, "audiocnn")
        shutil.copytree(Path(audiocnn.__file__).parent, library, ignore=shutil.ignore_patterns("__pycache__"))
        yield {
            # Copied, because MLflow resolves the path relative to the working directory.
            "python_model": shutil.copy(Path(__file__).with_name("pyfunc_model.py"), scratch),
            "artifacts": {ARTIFACT: str(shutil.copytree(model, Path(scratch, ARTIFACT)))},
            "code_paths": [str(library)],
            "signature": ModelSignature(Schema([ColSpec(DataType.binary, "audio")]), outputs),
            "input_example": pd.DataFrame({"audio": [example]}),
            # Without the label of a build, such as +cpu: no package index has it.
            "pip_requirements": [f"{name}=={installed_version(name).partition('+')[0]}" for name in REQUIREMENTS],
        }
    sys.path = search_path  # MLflow loads the model to test it, which adds the temporary copy of the library


def _version(found: "ModelVersion") -> Version:
    # found.model_id is None after a search. The source is models:/ID, in release 0.1.0 the address of the artifacts.
    model = re.search(r"/(m-[0-9a-f]{32})(/artifacts)?$", str(found.source))
    return Version(str(found.name), int(found.version), str(found.run_id), dict(found.tags), model[1] if model else "")
