"""A folder on this machine, read where it lies."""

import re
from pathlib import Path

from audiocnn.settings import IngestSettings
from components.ingest.sources.kind import Fetched, Kind, SourceError, printable

SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)


def _matches(source: str) -> bool:
    return bool(source.strip()) and not SCHEME.match(source)


def _fetch(source: str, _: IngestSettings, __: Path) -> Fetched:
    folder = Path(source).expanduser()
    if not folder.is_dir():
        raise SourceError(f"source {source!r}: there is no such folder")
    folder = folder.resolve()
    return Fetched(folder, printable(folder.name))


KIND = Kind("a folder with meta/esc50.csv and audio/", _matches, _fetch)
