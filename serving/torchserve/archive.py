"""Build the model archive (.mar) that TorchServe loads. The same model, name and version give the same bytes."""

import json
import zipfile
from pathlib import Path

from audiocnn.atomic import atomic_file
from audiocnn.classifier import METADATA_FILE, WEIGHTS_FILE, Classifier
from serving.torchserve.client import to_served_version

HANDLER = Path(__file__).with_name("handler.py")
TIMESTAMP = (1980, 1, 1, 0, 0, 0)  # of all members: the earliest time of the zip format


def build_archive(model_folder: Path, name: str, version: int, store: Path) -> Path:
    """Write `<store>/<name>-<version>.mar`, after loading the model once to verify it.

    The library is not part of it: the workers import the installed one. torch-model-archiver is not used, because its
    archives contain the time, and two builds of one name share a folder in /tmp.
    """
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
