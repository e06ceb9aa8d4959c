"""Build the model archive (.mar) that TorchServe loads. The same model and settings give the same bytes."""

import hashlib
import json
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from audiocnn.atomic import atomic_file
from audiocnn.classifier import METADATA_FILE, WEIGHTS_FILE
from serving.torchserve.backends import BACKEND_FILE, NETWORK_FILE, Backend
from serving.torchserve.conversion import choose_backend
from serving.torchserve.settings import ModelSettings

HANDLER = Path(__file__).with_name("handler.py")
TIMESTAMP = (1980, 1, 1, 0, 0, 0)  # of all members: the earliest time of the zip format
RELEASES = 10**6


def build_archive(
    model_folder: Path, name: str, version: int, store: Path, settings: ModelSettings, clips: Sequence[bytes] = ()
) -> Path:
    """Write `<store>/<name>-<version>.<release>.mar`, with the network converted for the backend of the settings.

    The release is a number computed from the content of the archive, the batch size and the delay. So TorchServe can
    serve a version with other settings, or another handler, beside the version that answers until the switch.

    The library is not part of the archive: the workers import the installed one. torch-model-archiver is not used,
    because its archives contain the time, and two builds of one name share a folder in /tmp.

    Args:
        clips: sound files on which the backend has to give the model's answers.
    Raises:
        ModelError: the model cannot be loaded.
        BackendError: the backend cannot run the network, or gives other answers.
    """
    with tempfile.TemporaryDirectory() as scratch:
        backend = choose_backend(model_folder, settings.backend, settings.bf16, clips, Path(scratch))
        members = {
            HANDLER.name: HANDLER.read_bytes(),
            METADATA_FILE: (model_folder / METADATA_FILE).read_bytes(),
            WEIGHTS_FILE: (model_folder / WEIGHTS_FILE).read_bytes(),
            BACKEND_FILE: backend.model_dump_json(indent=2).encode(),
        }
        if backend.name != "torch":
            members[NETWORK_FILE] = (Path(scratch) / NETWORK_FILE).read_bytes()
    served = f"{version}.{_release(members, settings)}"
    manifest = {
        "runtime": "python",
        "model": {"modelName": name, "modelVersion": served, "handler": HANDLER.name},
        "registryVersion": version,  # read by the handler
        "archiverVersion": "0.12.0",
    }
    members["MAR-INF/MANIFEST.json"] = json.dumps(manifest, indent=2).encode()
    path = store / f"{name}-{served}.mar"
    # Not compressed: weights do not shrink, and TorchServe unpacks the archive before each registration.
    with atomic_file(path) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
        for member, content in members.items():
            archive.writestr(zipfile.ZipInfo(member, TIMESTAMP), content)
    return path


def archive_backend(archive: Path) -> Backend:
    """Return the backend of an archive."""
    with zipfile.ZipFile(archive) as members:
        return Backend.model_validate_json(members.read(BACKEND_FILE))


def _release(members: Mapping[str, bytes], settings: ModelSettings) -> int:
    contents = {name: hashlib.sha256(content).hexdigest() for name, content in members.items()}
    described = [contents, settings.batch_size, settings.max_batch_delay_ms]
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).digest()
    return int.from_bytes(digest[:8], "big") % RELEASES
