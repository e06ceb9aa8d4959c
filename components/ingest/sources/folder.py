"""A folder on this machine, read where it lies."""

import csv
import re
from contextlib import suppress
from pathlib import Path

from components.ingest.settings import IngestSettings
from components.ingest.sources.folds import folds_in
from components.ingest.sources.kind import TABLE, Fetched, Kind, SourceError, local_path, printable

SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)


def _matches(source: str) -> bool:
    return bool(source.strip()) and not SCHEME.match(source)


def _fetch(source: str, _: IngestSettings, __: Path) -> Fetched:
    folder = local_path(source)
    if not folder.is_dir():
        raise SourceError(f"source {source!r}: there is no such folder")
    folder = folder.resolve()
    return Fetched(folder, printable(folder.name))


def _folds(source: str) -> list[int]:
    path = local_path(source) / TABLE
    if path.is_file():  # a pipe would be waited for
        with suppress(OSError, ValueError, csv.Error), path.open(encoding="utf-8-sig", newline="") as table:
            return folds_in(table)
    return []


KIND = Kind("a folder with meta/esc50.csv and audio/", _matches, _fetch, _folds)
