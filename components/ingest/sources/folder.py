"""A folder on this machine, read in place."""

import csv
from contextlib import suppress
from pathlib import Path

from components.ingest.settings import IngestSettings
from components.ingest.sources.base import SCHEME, LocalSource, SourceError
from components.ingest.sources.layout import TABLE, SourceFolder, folds_in_table, printable


class FolderSource(LocalSource):
    """`path/to/folder`."""

    description = "a folder with meta/esc50.csv and audio/"

    @classmethod
    def matches(cls, text: str) -> bool:
        """Return whether `text` can be a path."""
        return bool(text.strip()) and not SCHEME.match(text)

    def require_exists(self) -> None:
        """Check that the path is a folder in the layout of ESC-50.

        Raises:
            SourceError: it is not.
        """
        super().require_exists()
        if not self.path.is_dir():
            raise SourceError(f"source {self.text!r} is neither a folder nor a .zip file")
        self._require_layout(self.path)

    def folds(self) -> list[int]:
        """Return the folds in the clip table; an empty list if it cannot be read."""
        table = self.path / TABLE
        if table.is_file():  # opening a pipe would block
            with suppress(OSError, ValueError, csv.Error), table.open(encoding="utf-8-sig", newline="") as lines:
                return folds_in_table(lines)
        return []

    def _fetch(self, _: IngestSettings, __: Path, /) -> SourceFolder:
        self.require_exists()
        folder = self.path.resolve()
        return SourceFolder(folder, printable(folder.name))
