"""What a kind of source is, and what every source has to yield: a folder in ESC-50's layout."""

import hashlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from audiocnn.errors import AudioCNNError
from audiocnn.settings import IngestSettings

TABLE = Path("meta", "esc50.csv")
AUDIO = Path("audio")
LONGEST_NAME = 255  # bytes: what file systems take
NAMED = 3  # files in a message


class SourceError(AudioCNNError):
    """A source that is of no known kind, is not there, cannot be reached, or holds no data set."""


def is_clip(name: str) -> bool:
    """Whether a name in audio/ is that of a file directly in it: nothing outside must ever be written."""
    plain = PurePosixPath(name).name == name == PureWindowsPath(name).name
    return plain and not name.startswith(".") and name.isprintable() and 0 < len(name.encode()) <= LONGEST_NAME


def md5(file: Path) -> str:
    """Of a file's content, hex."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def named(paths: Collection[str]) -> str:
    """How many files, and the first few of them by name: "4 files (a.wav, b.wav, c.wav, ...)"."""
    few = ", ".join(sorted(paths)[:NAMED])
    return f"{len(paths)} file{'s' * (len(paths) != 1)} ({few}{', ...' * (len(paths) > NAMED)})"


@dataclass(frozen=True)
class Kind:
    """One kind of source.

    `fetch(source, settings, workspace)` returns a folder with TABLE and AUDIO in it, named as the data set shall be
    called; what has to be made or downloaded goes under `workspace`, which is removed after the run.
    """

    described: str
    matches: Callable[[str], bool]
    fetch: Callable[[str, IngestSettings, Path], Path]
