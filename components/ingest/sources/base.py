"""Base classes of the sources."""

import os
import re
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from audiocnn.errors import AudioCNNError
from components.ingest.settings import IngestSettings
from components.ingest.sources.layout import AUDIO, TABLE, SourceFolder

SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)


class SourceError(AudioCNNError):
    """A source that is unknown, missing or unreachable, or is not a data set."""


class Source(ABC):
    """A data set to read, as named by the user.

    Attributes:
        types: all kinds of source; the first whose `matches` returns True is used. Set in `sources/__init__.py`.
        description: the kind of source in help texts.
        text: what the user typed.
    """

    types: ClassVar[tuple[type["Source"], ...]] = ()
    description: ClassVar[str]

    def __init__(self, text: str) -> None:
        self.text = text

    @staticmethod
    def parse(text: str) -> "Source":
        """Return the source that `text` names. Nothing is read yet.

        Raises:
            SourceError: `text` is not a source.
        """
        if SCHEME.match(text) and not text.isprintable():  # a local path may contain any bytes
            raise SourceError(f"source {text!r} has characters that are invalid in a URL; percent-encode them")
        for source_type in Source.types:
            if source_type.matches(text):
                return source_type(text)
        descriptions = "; ".join(source_type.description for source_type in Source.types)
        raise SourceError(f"source {text!r} is unknown; expected one of: {descriptions}")

    @classmethod
    @abstractmethod
    def matches(cls, text: str) -> bool:
        """Return whether `text` names a source of this kind."""

    @property
    def path(self) -> Path | None:
        """The file or folder of a local source, else None."""
        return None

    def require_exists(self) -> None:  # noqa: B027  not abstract: remote sources have no check
        """Check a local source before a run starts. Remote sources are checked by `fetch`.

        Raises:
            SourceError: the path is missing, or is not a data set.
        """

    def folds(self) -> list[int]:
        """Return the sorted fold numbers, or an empty list if they cannot be determined without fetching the data."""
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

    @property
    def path(self) -> Path:
        """The path, with `~` expanded. `~name` of an unknown user is left unchanged."""
        return Path(os.path.expanduser(self.text))  # noqa: PTH111  Path.expanduser raises RuntimeError there

    def require_exists(self) -> None:
        """Check that the path exists.

        Raises:
            SourceError: it does not.
        """
        if not self.path.exists():
            raise SourceError(f"source {self.text!r}: no such file or folder")
