"""Build the model archive (.mar) that TorchServe loads. The same model, name and version give the same bytes."""

import json
import re
import zipfile
from pathlib import Path

from audiocnn.atomic import atomic_file
from audiocnn.classifier import METADATA_FILE, WEIGHTS_FILE, Classifier
from audiocnn.errors import AudioCNNError

HANDLER = Path(__file__).with_name("handler.py")
NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")  # model names that TorchServe accepts
TIMESTAMP = (1980, 1, 1, 0, 0, 0)  # of all members: the earliest time of the zip format


class ArchiveError(AudioCNNError):
    """A name or a version that TorchServe does not accept."""


def build_archive(model_folder: Path, name: str, version: int, store: Path) -> Path:
    """Write `<store>/<name>-<version>.mar`, after loading the model once to verify it.

    The archive contains MAR-INF/MANIFEST.json, the handler and the two files of the model. The library is not part of
    it: the workers import the installed one, and the model rejects a front end of another version. torch-model-archiver
    is not used, because its archives contain the time, and two builds of one name share a folder in /tmp.

    Args:
        model_folder: folder of a Classifier.
        name: name of the model in TorchServe.
        version: version number in the registry.
        store: TorchServe's model store.
    Returns:
        the path of the archive.
    Raises:
        ModelError: the model cannot be loaded; nothing is written.
        ArchiveError: TorchServe does not accept the name or the version.
    """
    if not NAME_PATTERN.fullmatch(name) or version < 1:
        raise ArchiveError(
            f"model {name!r}, version {version}: TorchServe accepts names of letters, digits, '.', '-' and '_', and "
            "versions from 1"
        )
    Classifier.load(model_folder)
    manifest = {
        "runtime": "python",
        "model": {"modelName": name, "modelVersion": to_served_version(version), "handler": HANDLER.name},
        "registryVersion": version,  # read by the handler
        "archiverVersion": "0.12.0",
    }
    members = {
        "MAR-INF/MANIFEST.json": json.dumps(manifest, indent=2).encode(),
        HANDLER.name: HANDLER.read_bytes(),
        METADATA_FILE: (model_folder / METADATA_FILE).read_bytes(),
        WEIGHTS_FILE: (model_folder / WEIGHTS_FILE).read_bytes(),
    }
    path = store / f"{name}-{version}.mar"
    # Not compressed: weights do not shrink, and TorchServe unpacks the archive before each registration.
    with atomic_file(path) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
        for member, content in members.items():
            archive.writestr(zipfile.ZipInfo(member, TIMESTAMP), content)
    return path


def to_served_version(version: int) -> str:
    """Convert a version number of the registry to a version in TorchServe: 7 to "7.0"."""
    return f"{version}.0"


def from_served_version(served: str) -> int | None:
    """Convert a version in TorchServe to a version number of the registry; None if it was not registered by deploy."""
    number = served.removesuffix(".0")
    return int(number) if number.isdecimal() else None
