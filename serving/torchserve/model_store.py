"""The model store: the archives of one model, and an index that names the one to serve."""

import hashlib
import os
import re
from pathlib import Path

from audiocnn.atomic import atomic_file
from audiocnn.config import NonNegativeInt, PositiveInt
from audiocnn.errors import AudioCNNError
from audiocnn.strict_model import StrictModel
from mlops.provenance import utc_now
from mlops.storage import Entry, open_store
from serving.torchserve.settings import ModelSettings

INDEX = "index.json"
DEPLOY_LOCK = "deploy.lock"  # held while the versions of a TorchServe, or TorchServe itself, are replaced
ARCHIVE_SUFFIX = ".mar"
TIME_ROUNDING = 1e-3  # s


class ModelStoreError(AudioCNNError):
    """An index that cannot be read, or an archive that is missing or damaged."""


class Index(StrictModel):
    """Content of `index.json`: the version that every TorchServe has to serve.

    Attributes:
        name: name of the registered model.
        version: its number in the registry.
        archive: name of the archive in the store.
        sha256: SHA-256 of the archive, hexadecimal.
        workers, batch_size, max_batch_delay_ms: how it is registered; see `DeploySettings`.
        written_at: time, UTC, ISO 8601.
    """

    name: str
    version: PositiveInt
    archive: str
    sha256: str
    workers: PositiveInt
    batch_size: PositiveInt
    max_batch_delay_ms: NonNegativeInt
    written_at: str

    @property
    def served_version(self) -> str:
        """The version in TorchServe: "7.48213" of the archive sounds-7.48213.mar.

        Archives of 0.1.0 have names like sounds-7.mar, and the version "7.0".
        """
        served = self.archive.removesuffix(ARCHIVE_SUFFIX).rpartition("-")[2]
        return served if "." in served else f"{served}.0"

    def is_same_release(self, other: "Index") -> bool:
        """Return whether another index names the same archive, registered in the same way."""
        return self.replace(written_at=other.written_at) == other


def index_of(archive: Path, name: str, version: int, settings: ModelSettings) -> Index:
    """Return the index that names an archive."""
    return Index(
        name=name,
        version=version,
        archive=archive.name,
        sha256=archive_digest(archive),
        workers=settings.workers,
        batch_size=settings.batch_size,
        max_batch_delay_ms=settings.max_batch_delay_ms,
        written_at=utc_now(),
    )


class ModelStore:
    """A model store in a folder or below s3://bucket/prefix. Its methods raise StorageError and ModelStoreError."""

    def __init__(self, address: str) -> None:
        self._files = open_store(address)
        self.address = self._files.address

    def index(self) -> Index | None:
        """Return the index, None if nothing was deployed yet."""
        content = self._files.get(INDEX)
        if content is None:
            return None
        try:
            return Index.model_validate_json(content)
        except ValueError as error:
            raise ModelStoreError(
                f"{self.address}/{INDEX} is not an index of this version of audiocnn; delete it and deploy again"
            ) from error

    def write_index(self, index: Index) -> None:
        """Replace the index."""
        self._write(INDEX, index.model_dump_json(indent=2).encode())

    def put(self, archive: Path) -> None:
        """Write or replace an archive."""
        self._write(archive.name, archive.read_bytes())

    def contains(self, archive: str) -> bool:
        """Return whether there is an archive of that name."""
        return any(entry.name == archive for entry in self._files.list())

    def delete(self, archive: str) -> None:
        """Delete an archive; a missing one is ignored."""
        self._files.delete([archive])

    def delete_other_archives(self, index: Index) -> None:
        """Delete all archives of a model but the one that the index names."""
        pattern = re.compile(rf"{re.escape(index.name)}-\d+(\.\d+)?{re.escape(ARCHIVE_SUFFIX)}")
        names = [entry.name for entry in self._files.list() if pattern.fullmatch(entry.name)]
        self._files.delete(name for name in names if name != index.archive)

    def copy_archives(self, folder: Path) -> None:
        """Make the archives in a local folder those of the store; unchanged ones are not copied again."""
        entries = {entry.name: entry for entry in self._files.list() if entry.name.endswith(ARCHIVE_SUFFIX)}
        for name, entry in entries.items():
            local = folder / name
            if local.is_file() and _is_copy(local.stat(), entry):
                continue
            if (content := self._files.get(name)) is not None:
                with atomic_file(local) as part:
                    part.write_bytes(content)
                    os.utime(part, (entry.modified, entry.modified))
        for local in folder.glob(f"*{ARCHIVE_SUFFIX}"):
            if local.name not in entries:
                local.unlink()

    def _write(self, name: str, content: bytes) -> None:
        self._files.put(name, content)
        self._files.flush()


def _is_copy(stat: os.stat_result, entry: Entry) -> bool:
    return stat.st_size == entry.size and abs(stat.st_mtime - entry.modified) < TIME_ROUNDING


def verify(archive: Path, index: Index) -> None:
    """Raise ModelStoreError if a file is not the archive that the index names."""
    if not archive.is_file():
        raise ModelStoreError(f"{archive.name}: the index names it, but the model store lacks it; deploy again")
    if archive_digest(archive) != index.sha256:
        raise ModelStoreError(f"{archive.name}: its SHA-256 differs from that in {INDEX}; deploy again")


def archive_digest(archive: Path) -> str:
    """Return the SHA-256 of an archive, hexadecimal."""
    with archive.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
