"""The manifest of a version: SHA-256 digest and size of every file of its model folder.

`manifest.json` is stored beside the files, and its own digest is a parameter of the MLflow model: MLflow neither
changes nor deletes parameters. It is not a tag: whoever may edit a version in MLflow's pages can delete tags.
"""

import hashlib
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops.tracking.connection import TrackingError, connect
from mlops.tracking.version import Version

if TYPE_CHECKING:
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

FILE = "manifest.json"
PARAMETER = "manifest_sha256"  # of the MLflow model


class DamagedVersionError(TrackingError):
    """A version whose files differ from those that were registered, or which has no manifest."""


def make(folder: Path) -> str:
    return json.dumps(_files(folder), indent=2, ensure_ascii=False) + "\n"


def digest(manifest: str) -> str:
    return hashlib.sha256(manifest.encode()).hexdigest()


def artifacts(model_id: str) -> "ArtifactRepository":
    """Return MLflow's access to the files of an MLflow model."""
    connection = connect()
    return connection.artifacts(connection.call(connection.client.get_logged_model, model_id).artifact_location)


def store(model_id: str, content: str, name: str = FILE) -> None:
    """Store a manifest, or another text, beside the files of an MLflow model."""
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch, name)
        file.write_text(content, encoding="utf-8")
        connect().call(artifacts(model_id).log_artifact, str(file))


def recorded_digest(version: Version) -> str:
    """Return the digest of a version's manifest; empty if it has none."""
    return model_parameter(version, PARAMETER)


def model_parameter(version: Version, key: str) -> str:
    """Return a parameter of the MLflow model behind a version; empty if there is none."""
    if not version.model_id:
        return ""
    connection = connect()
    return str(connection.call(connection.client.get_logged_model, version.model_id).params.get(key, ""))


def verify_version(version: Version, folder: Path) -> None:
    """Compare the downloaded files of a version with its manifest.

    Raises:
        DamagedVersionError: a file was changed, is missing or was added, or the version has no manifest.
    """
    if not (recorded := recorded_digest(version)):
        raise DamagedVersionError(
            f"{version} has no manifest, so its files cannot be verified; if they can be trusted, run "
            f'`audiocnn adopt {version.number} --because "..."`'
        )
    manifest = download(version)
    if manifest is None:
        raise damaged(version, f"{FILE} is missing")
    if digest(manifest) != recorded:
        raise damaged(version, f"{FILE} was changed since it was registered")
    expected, found = json.loads(manifest), _files(folder)
    for file in sorted({*expected, *found}):
        if expected.get(file) != found.get(file):
            what = "is missing" if file not in found else "was added" if file not in expected else "was changed"
            raise damaged(version, f"the file {file} {what} since it was registered")


def download(version: Version, name: str = FILE) -> str | None:
    """Return the text of a file that is stored beside those of a version; None if there is none.

    Raises:
        DamagedVersionError: it is not a text.
        TrackingError: MLflow or the artifact store does not answer, so nothing is known about the files.
    """
    connection = connect()
    repository = artifacts(version.model_id)
    if name not in [item.path for item in connection.call(repository.list_artifacts)]:
        return None
    with tempfile.TemporaryDirectory() as scratch:
        try:
            path = connection.call(repository.download_artifacts, name, dst_path=scratch)
            return Path(path).read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise damaged(version, f"{name} was changed since it was registered") from error
        except (OSError, TrackingError) as error:
            raise TrackingError(
                f"{name} of {version} cannot be downloaded: {error}; check the artifact store"
            ) from error


def damaged(version: Version, what: str) -> DamagedVersionError:
    """Return the error for a version of which `what` was found."""
    return DamagedVersionError(f"{version}: {what}; do not serve it, register the model again")


def _files(folder: Path) -> dict[str, dict[str, Any]]:
    return {
        path.relative_to(folder).as_posix(): {
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "size": path.stat().st_size,
        }
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
