"""Base classes of the sources."""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from audiocnn.errors import AudioCNNError
from components.ingest.settings import IngestSettings
from components.ingest.sources.layout import AUDIO, TABLE, SourceFolder
from mlops.progress import report_progress

THREADS = 16  # concurrent requests


class SourceError(AudioCNNError):
    """A source that is unknown, missing or unreachable, or is not a data set."""


class Source(ABC):
    """A data set to read, as named by the user in `text`.

    Attributes:
        path: the file or folder of a local source, else None.
    """

    path: Path | None = None

    def __init__(self, text: str) -> None:
        self.text = text

    def require_exists(self) -> None:  # noqa: B027  not abstract: remote sources are checked by `fetch`
        """Check a local source before a run starts; raise SourceError if it is missing or is not a data set."""

    def folds(self) -> list[int]:
        """Return the sorted folds; an empty list if they are not known before the data is fetched."""
        return []

    def pinned(self) -> str:
        """Return a source that names the same content in every environment, for example without Git.

        Raises:
            SourceError: the revision does not exist.
        """
        return self.text

    def fetch(self, settings: IngestSettings, workspace: Path) -> SourceFolder:
        """Make the data available as a local folder.

        Args:
            workspace: an empty folder for files that are created; the caller removes it after the run.
        Raises:
            SourceError: the data cannot be read, exceeds the limits of the settings, or is not a data set.
        """
        fetched = self._fetch(settings, workspace)
        self._require_layout(fetched.folder)
        return fetched

    @abstractmethod
    def _fetch(self, settings: IngestSettings, workspace: Path, /) -> SourceFolder:
        """Return a folder with TABLE and AUDIO; create files only in `workspace`; raise SourceError."""

    def _require_layout(self, folder: Path) -> None:
        for part, meaning in ((TABLE, "the clip table"), (AUDIO, "the folder of clips")):
            if not (folder / part).exists():
                raise SourceError(f"source {self.text!r} is not a data set: {part.as_posix()} ({meaning}) is missing")


class LocalSource(Source):
    """A file or folder on this machine."""

    path: Path

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.path = Path(os.path.expanduser(text))  # noqa: PTH111  Path.expanduser raises for an unknown user

    def _require(self, is_kind: Callable[[Path], bool]) -> None:
        if not self.path.exists():
            raise SourceError(f"source {self.text!r}: no such file or folder")
        if not is_kind(self.path):
            raise SourceError(f"source {self.text!r} is neither a folder nor a .zip file")


def fetch_files(fetch: Callable[[str], None], paths: Sequence[str], action: str) -> None:
    """Call `fetch` for each path, in several threads. The first error cancels the rest."""
    with ThreadPoolExecutor(THREADS) as pool:
        try:
            for done, _ in enumerate(pool.map(fetch, paths), 1):
                report_progress("ingest", action, done, len(paths), "files")
        finally:
            pool.shutdown(cancel_futures=True)
