"""The adoption of a version without a manifest, or without a signature by the present key."""

import hashlib
import os
import tempfile
from pathlib import Path

from audiocnn.classifier import METADATA_FILE, Classifier, ModelError
from audiocnn.errors import AudioCNNError
from mlops.tracking import history, manifest, signature
from mlops.tracking.connection import connect
from mlops.tracking.history import Entry
from mlops.tracking.registry import download_unverified
from mlops.tracking.runs import user
from mlops.tracking.version import Version

DIGEST_TAGS = {"weights_sha256": "weights", "model_json_sha256": METADATA_FILE}  # of versions of release 0.1.0


class AdoptionError(AudioCNNError):
    """A version that has everything already, or cannot be trusted, or no reason is given."""


def adopt(version: Version, because: str) -> Entry:
    """Give a version a manifest of its files as they are now, and record it in the history.

    With AUDIOCNN_SIGNING_KEY, the version is signed too. One that has a manifest already keeps it.

    Raises:
        AdoptionError: no reason is given, the version has a manifest and there is no signing key, the model cannot be
            loaded, or its files differ from the digests in its tags.
        DamagedVersionError: its files differ from its manifest.
        SigningError: the signing key cannot be used.
    """
    if not because.strip():
        raise AdoptionError(f'say why the files of {version} can be trusted: --because "..."')
    has_manifest = bool(manifest.recorded_digest(version))
    if has_manifest and not os.environ.get(signature.SIGNING_KEY):
        raise AdoptionError(
            f"{version} has a manifest; to sign it, set {signature.SIGNING_KEY}; if it is damaged, register it again"
        )
    if not version.model_id:
        raise AdoptionError(f"{version} has no MLflow model to keep a manifest with; register the model again")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        download_unverified(version, folder)
        if has_manifest:
            manifest.verify_version(version, folder)
        else:
            _check(version, folder)
        files, signed = manifest.make(folder), signature.sign(folder)
    number = version.number
    entry = history.append(version.name, "adopt", version_from=None, version_to=number, by=user(), because=because)
    signature.store(version.model_id, signed)
    if not has_manifest:
        manifest.store(version.model_id, files)
        connection = connect()
        parameters = {manifest.PARAMETER: manifest.digest(files)}
        connection.call(connection.client.log_model_params, version.model_id, parameters)
    return entry


def _check(version: Version, folder: Path) -> None:
    """Load the model, and compare its files with the digests in the tags of release 0.1.0."""
    try:
        weights = Classifier.load(folder).weights_sha256
    except ModelError as error:
        raise AdoptionError(f"{version} cannot be loaded: {str(error).replace(f'{folder}/', '')}") from error
    found = (weights, hashlib.sha256((folder / METADATA_FILE).read_bytes()).hexdigest())
    for (tag, what), digest in zip(DIGEST_TAGS.items(), found, strict=True):
        if version.tags.get(tag, digest) != digest:
            raise AdoptionError(f"the {what} of {version} differ from the digest in the tag {tag}; do not serve it")
