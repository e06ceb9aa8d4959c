"""The official ESC-50 release. Every file is verified against the MD5 checksums of the release."""

import csv
import hashlib
from collections.abc import Mapping
from pathlib import Path

from filelock import AcquireReturnProxy, FileLock, Timeout

from components.ingest.settings import IngestSettings
from components.ingest.sources.base import Source, SourceError
from components.ingest.sources.download import download, redact
from components.ingest.sources.layout import AUDIO, TABLE, SourceFolder
from components.ingest.sources.zip_archive import DamagedArchiveError, unpack

FOLDS = (1, 2, 3, 4, 5)
CHECKSUMS = Path(__file__).resolve().parents[1] / "esc50-md5.csv"


class Esc50Source(Source):
    """`esc50`: downloaded once to ingest.downloads and used again by later runs."""

    def folds(self) -> list[int]:
        return [*FOLDS]

    def _fetch(self, settings: IngestSettings, workspace: Path, /) -> SourceFolder:
        archive = _download(settings)
        folder = workspace / "ESC-50"
        try:
            unpack(archive, folder, settings, redact(settings.esc50_url))
            verify(folder, read_checksums())
        except DamagedArchiveError as error:
            archive.unlink(missing_ok=True)
            remedy = "run again to download it again, or correct ingest.esc50_url"
            raise SourceError(f"source 'esc50': {error}; {remedy}") from error
        return SourceFolder(folder, "esc50")


def read_checksums() -> dict[str, str]:
    """Return the MD5 checksum of every file of the release, by path. data.dvc is derived from the same list."""
    with CHECKSUMS.open(encoding="utf-8", newline="") as rows:
        return {row["path"]: row["md5"] for row in csv.DictReader(rows)}


def verify(folder: Path, checksums: Mapping[str, str]) -> None:
    """Raise DamagedArchiveError if a file of a folder differs, is missing, or is not in the list."""
    found = {}
    for file in (folder / TABLE, *(folder / AUDIO).iterdir()):
        digest = hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()
        found[file.relative_to(folder).as_posix()] = digest
    problems = {
        "changed": [path for path in checksums if path in found and found[path] != checksums[path]],
        "missing": [path for path in checksums if path not in found],
        "unexpected": [path for path in found if path not in checksums],
    }
    for problem, paths in problems.items():
        if paths:
            files = f"{len(paths)} {problem} files, the first is {min(paths)}"
            raise DamagedArchiveError(f"the download differs from the official release: {files}")


def _download(settings: IngestSettings) -> Path:
    url, directory = settings.esc50_url, Path(settings.downloads)
    archive = directory / f"esc50-{hashlib.sha256(url.encode()).hexdigest()[:8]}.zip"
    directory.mkdir(parents=True, exist_ok=True)
    with _lock(archive.with_suffix(".lock")):
        if archive.is_file():
            print(f"[ingest] using {archive}, downloaded earlier", flush=True)
        else:
            part = archive.with_suffix(".part")
            download(url, part, settings.max_source_bytes)
            part.replace(archive)
    return archive


def _lock(file: Path) -> AcquireReturnProxy:
    lock = FileLock(file)
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        print("[ingest] another run is downloading the release; waiting", flush=True)
        return lock.acquire()
