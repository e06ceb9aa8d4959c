"""The official ESC-50 release, downloaded, and every file held against the release's MD5s."""

import csv
from collections.abc import Mapping
from pathlib import Path

from audiocnn.synthetic.dataset import FOLDS  # ESC-50's own
from components.ingest.settings import IngestSettings
from components.ingest.sources.archive import DamagedError, unpack
from components.ingest.sources.download import download, forget, shown
from components.ingest.sources.kind import AUDIO, TABLE, Fetched, Kind, SourceError, md5, named

RELEASE = Path(__file__).resolve().parents[1] / "esc50-md5.csv"


def release() -> dict[str, str]:
    """Path -> MD5 of every file of the official release; data.dvc follows from the same list."""
    with RELEASE.open(encoding="utf-8", newline="") as rows:
        return {row["path"]: row["md5"] for row in csv.DictReader(rows)}


def verify(folder: Path, expected: Mapping[str, str]) -> None:
    """Hold a folder against a list of MD5s.

    Raises:
        DamagedError: a file differs, is missing, or is not on the list.
    """
    files = [folder / TABLE, *(folder / AUDIO).iterdir()]
    found = {file.relative_to(folder).as_posix(): md5(file) for file in files if file.is_file()}
    wrong = {
        "altered": [path for path in expected if path in found and found[path] != expected[path]],
        "missing": [path for path in expected if path not in found],
        "not part of it": [path for path in found if path not in expected],
    }
    problems = [f"{what}: {named(paths)}" for what, paths in wrong.items() if paths]
    if problems:
        raise DamagedError(f"what was downloaded is not the official release ({'; '.join(problems)})")


def _fetch(_: str, settings: IngestSettings, workspace: Path) -> Fetched:
    downloads, url = Path(settings.downloads), settings.esc50_url
    file = download(url, downloads, settings.max_source_bytes, fixed=True)
    try:
        folder = workspace / "ESC-50"
        unpack(file, folder, settings, shown(url))
        verify(folder, release())
    except DamagedError as error:
        forget(url, downloads)  # or every further run would fail on the same bytes
        raise SourceError(
            f"source 'esc50': {error}; run again to download it anew, or correct ingest.esc50_url"
        ) from error
    return Fetched(folder, "esc50")  # wherever it came from: it is the release, byte by byte


KIND = Kind("esc50, the official release", lambda source: source == "esc50", _fetch, lambda _: sorted(FOLDS))
