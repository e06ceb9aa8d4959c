"""The official ESC-50 release. Every file is verified against the MD5 checksums of the release."""

import csv
import hashlib
from collections.abc import Mapping
from pathlib import Path

from filelock import AcquireReturnProxy, FileLock, Timeout

from components.ingest.settings import IngestSettings
from components.ingest.sources.base import Source, SourceError
from components.ingest.sources.download import download, redact
from components.ingest.sources.layout import AUDIO, TABLE, SourceFolder, count_and_examples
from components.ingest.sources.zip_archive import DamagedArchiveError, unpack

FOLDS = (1, 2, 3, 4, 5)
CHECKSUMS = Path(__file__).resolve().parents[1] / "esc50-md5.csv"


class Esc50Source(Source):
    """`esc50`: downloaded once to ingest.downloads and used again by later runs."""

    description = "esc50 (the official release)"

    @classmethod
    def matches(cls, text: str) -> bool:
        """Return whether `text` is "esc50"."""
        return text == "esc50"

    def folds(self) -> list[int]:
        """Return the folds of ESC-50."""
        return [*FOLDS]

    def _fetch(self, settings: IngestSettings, workspace: Path, /) -> SourceFolder:
        archive = _download(settings)
        folder = workspace / "ESC-50"
        try:
            unpack(archive, folder, settings, redact(settings.esc50_url))
            verify(folder, read_checksums())
        except DamagedArchiveError as error:
            archive.unlink(missing_ok=True)
            raise SourceError(
                f"source 'esc50': {error}; run again to download it again, or correct ingest.esc50_url"
            ) from error
        return SourceFolder(folder, "esc50")


def read_checksums() -> dict[str, str]:
    """Return the MD5 checksum of every file of the release, by path. data.dvc is derived from the same list."""
    with CHECKSUMS.open(encoding="utf-8", newline="") as rows:
        return {row["path"]: row["md5"] for row in csv.DictReader(rows)}


def verify(folder: Path, checksums: Mapping[str, str]) -> None:
    """Verify the files of a folder.

    Raises:
        DamagedArchiveError: a file differs, is missing, or is not in the list.
    """
    files = [folder / TABLE, *(folder / AUDIO).iterdir()]
    found = {file.relative_to(folder).as_posix(): _digest(file, "md5") for file in files if file.is_file()}
    problems = {
        "changed": [path for path in checksums if path in found and found[path] != checksums[path]],
        "missing": [path for path in checksums if path not in found],
        "unexpected": [path for path in found if path not in checksums],
    }
    if details := [f"{problem}: {count_and_examples(paths)}" for problem, paths in problems.items() if paths]:
        raise DamagedArchiveError(f"the download differs from the official release ({'; '.join(details)})")


def _download(settings: IngestSettings) -> Path:
    """Return the archive in ingest.downloads. It is downloaded unless it is there with its SHA-256 digest."""
    url, directory = settings.esc50_url, Path(settings.downloads)
    archive = directory / f"esc50-{hashlib.sha256(url.encode()).hexdigest()[:8]}.zip"
    part, digest_file = archive.with_suffix(".part"), archive.with_suffix(".sha256")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with _lock(archive.with_suffix(".lock")):
            if archive.is_file() and digest_file.is_file() and digest_file.read_text() == _digest(archive, "sha256"):
                print(f"[ingest] using {archive}, downloaded earlier", flush=True)
                return archive
            download(url, part, settings.max_source_bytes)
            digest_file.write_text(_digest(part, "sha256"))
            part.replace(archive)
            return archive
    except OSError as error:
        raise SourceError(f"{directory} (ingest.downloads) cannot be used: {error.strerror or error}") from error


def _lock(file: Path) -> AcquireReturnProxy:
    lock = FileLock(file)
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        print("[ingest] another run is downloading the release; waiting", flush=True)
        return lock.acquire()


def _digest(file: Path, algorithm: str) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()
