"""A model folder -> the .mar archive that TorchServe loads: the same bytes for the same model, name and version."""

import json
import re
import zipfile
from pathlib import Path

from audiocnn.atomic import atomic_file
from audiocnn.classifier import METADATA_FILE, WEIGHTS_FILE, Classifier
from audiocnn.errors import AudioCNNError

HANDLER = Path(__file__).with_name("handler.py")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")  # what TorchServe takes for a model's name
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip can hold


class ArchiveError(AudioCNNError):
    """A name or a version that no archive can have."""


def build(model_folder: Path, name: str, version: int, store: Path) -> Path:
    """Write `<store>/<name>-<version>.mar` after the model in it has been loaded once.

    The archive is a zip with MAR-INF/MANIFEST.json, the handler and the model folder's two files; the library comes
    from the environment that serves, and the model refuses another front end than its own. torch-model-archiver would
    do the same with the time of day in it, by way of a folder in /tmp that two builds of one name take from each other.

    Raises:
        ModelError: the model cannot be used; nothing is written.
        ArchiveError: TorchServe would not take the name or the version.
    """
    if not NAME.fullmatch(name) or version < 1:
        raise ArchiveError(f"model {name!r}, version {version}: a name of letters, digits, . - _ and a number above 0")
    Classifier.load(model_folder)
    members = {
        "MAR-INF/MANIFEST.json": json.dumps(_manifest(name, version), indent=2).encode(),
        HANDLER.name: HANDLER.read_bytes(),
        METADATA_FILE: (model_folder / METADATA_FILE).read_bytes(),
        WEIGHTS_FILE: (model_folder / WEIGHTS_FILE).read_bytes(),
    }
    path = location(name, version, store)
    # Stored, not deflated: weights do not get smaller, and TorchServe unpacks them again for every worker's start.
    with atomic_file(path) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
        for member, content in members.items():
            archive.writestr(zipfile.ZipInfo(member, EPOCH), content)
    return path


def location(name: str, version: int, store: Path) -> Path:
    """Where `build` puts the archive."""
    return store / f"{name}-{version}.mar"


def served_version(version: int) -> str:
    """A registry's version number in TorchServe's way of writing versions."""
    return f"{version}.0"


def registry_version(served: str | None) -> int | None:
    """The way back; None for a version that `build` did not name."""
    head = (served or "").partition(".")[0]
    return int(head) if head.isdecimal() else None


def _manifest(name: str, version: int) -> dict[str, object]:
    return {
        "runtime": "python",
        "model": {"modelName": name, "modelVersion": served_version(version), "handler": HANDLER.name},
        "archiverVersion": "0.12.0",
    }
