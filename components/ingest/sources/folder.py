"""A folder on this machine, read in place."""

import csv
import os
from contextlib import suppress
from pathlib import Path

from components.ingest.settings import IngestSettings
from components.ingest.sources.base import LocalSource
from components.ingest.sources.layout import TABLE, SourceFolder, folds_in_table, printable

DVC_STAGE = "DVC_STAGE"  # environment variable that DVC sets for the command of a stage


class FolderSource(LocalSource):
    """`path/to/folder`."""

    def require_exists(self) -> None:
        self._require(Path.is_dir)
        self._require_layout(self.path)

    def folds(self) -> list[int]:
        table = self.path / TABLE
        if table.is_file():  # opening a pipe would block
            with suppress(OSError, ValueError, csv.Error), table.open(encoding="utf-8-sig", newline="") as lines:
                return folds_in_table(lines)
        return []

    def _fetch(self, _: IngestSettings, __: Path, /) -> SourceFolder:
        self.require_exists()
        folder = self.path.resolve()
        content_hash = _dvc_hash(self.path) if os.environ.get(DVC_STAGE) else ""
        return SourceFolder(folder, f"dvc:{content_hash}" if content_hash else printable(folder.name))


def _dvc_hash(folder: Path) -> str:
    """Return the hash that DVC gives the present content of a folder; empty if the project does not track it."""
    from dvc.exceptions import OutputNotFoundError
    from dvc.repo import Repo

    with suppress(OutputNotFoundError), Repo() as repo:
        (tracked,) = repo.find_outs_by_path(str(folder))
        return str(tracked.get_hash().value)
    return ""
