"""The signature of a version with a key, in the format of OpenSSF Model Signing; optional.

With the environment variable AUDIOCNN_SIGNING_KEY, registration signs the model folder; with AUDIOCNN_VERIFY_KEY, every
download verifies it. Both are the path of a PEM file or its text, as Kubernetes passes a secret. Unlike the manifest, a
signature also protects against those who may write to MLflow's database.
"""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from audiocnn.errors import AudioCNNError
from mlops.tracking import manifest
from mlops.tracking.manifest import DamagedVersionError
from mlops.tracking.version import Version

T = TypeVar("T")
FILE = "model.sig"
SIGNING_KEY = "AUDIOCNN_SIGNING_KEY"
VERIFY_KEY = "AUDIOCNN_VERIFY_KEY"


class SigningError(AudioCNNError):
    """A key that cannot be used, or a missing package."""


def sign(folder: Path) -> str:
    """Return the signature of all files in a folder; empty without a signing key.

    Raises:
        SigningError: the key cannot be used, or model-signing is not installed.
    """
    if not os.environ.get(SIGNING_KEY):
        return ""
    library = _library(SIGNING_KEY)
    config = library.signing.Config().set_hashing_config(_every_file(library))
    _with_key(SIGNING_KEY, "private", lambda key: config.use_elliptic_key_signer(private_key=key))
    with tempfile.TemporaryDirectory() as scratch:
        config.sign(folder, file := Path(scratch, FILE))
        return file.read_text(encoding="utf-8")


def store(model_id: str, signature: str) -> None:
    """Store a signature beside the files of an MLflow model, unless it is empty."""
    if signature:
        manifest.store(model_id, signature, FILE)


def verify_version(version: Version, folder: Path) -> None:
    """Compare the downloaded files of a version with its signature. Nothing is checked without a key for it.

    Raises:
        DamagedVersionError: the version is not signed, or not by this key, or its files are not the signed ones.
        SigningError: the key cannot be used, or model-signing is not installed.
        TrackingError: MLflow or the artifact store does not answer.
    """
    if not os.environ.get(VERIFY_KEY):
        return
    library = _library(VERIFY_KEY)
    config = library.verifying.Config().set_hashing_config(_every_file(library))
    _with_key(VERIFY_KEY, "public", lambda key: config.use_elliptic_key_verifier(public_key=key))
    signature = manifest.download(version, FILE)
    if signature is None:
        raise DamagedVersionError(
            f"{version} is not signed, and {VERIFY_KEY} is set; if its files can be trusted, run "
            f'`audiocnn adopt {version.number} --because "..."` with {SIGNING_KEY}, which signs them'
        )
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch, FILE)
        file.write_text(signature, encoding="utf-8")
        try:
            config.verify(folder, file)
        except Exception as error:  # a malformed file causes errors of many kinds
            what = f"{FILE} is not a signature of its files by the key in {VERIFY_KEY}"
            raise manifest.damaged(version, what) from error


def _library(variable: str) -> Any:
    try:
        import model_signing
    except ModuleNotFoundError as error:
        raise SigningError(
            f"{variable} is set, but the Python package {error.name} is missing; "
            "run `pip install model-signing pyopenssl`, or unset the variable"
        ) from None
    return model_signing


def _every_file(library: Any) -> Any:
    """Return a configuration that includes Git's files, which the library ignores by default."""
    return library.hashing.Config().set_ignored_paths(paths=[], ignore_git_paths=False)


def _with_key(variable: str, kind: str, use: Callable[[Path], T]) -> T:
    """Call `use` with the file of a key. Errors do not contain the variable's value, which may be the key."""
    value = os.environ[variable].strip()
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(value)
        if value.startswith("-----BEGIN"):
            file = Path(scratch, "key.pem")
            file.write_text(f"{value}\n", encoding="utf-8")
        try:
            return use(file)
        except OSError as error:
            raise SigningError(f"{variable}: the file of the key cannot be read: {error.strerror}") from None
        except (ValueError, TypeError, AttributeError):  # the library finds no curve in keys of other kinds
            raise SigningError(
                f"{variable} has to be a {kind} key in PEM format without a password, on the curve P-256, P-384 or "
                "P-521: the path of its file, or its text"
            ) from None
