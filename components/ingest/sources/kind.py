"""What a kind of source is, and what every source has to yield: a folder in ESC-50's layout."""

import hashlib
import os
import unicodedata
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath

from audiocnn.errors import AudioCNNError
from components.ingest.settings import IngestSettings

TABLE = Path("meta", "esc50.csv")
AUDIO = Path("audio")
LONGEST_NAME = 255  # bytes: what file systems take
NAMED = 3  # files in a message


class SourceError(AudioCNNError):
    """A source that is of no known kind, is not there, cannot be reached, or holds no data set."""


def local_path(source: str) -> Path:
    """A path on this machine, `~` replaced; that of a user who is not there stays as it is, and leads nowhere."""
    return Path(os.path.expanduser(source))  # noqa: PTH111  Path's own raises RuntimeError there


def is_clip(name: str) -> bool:
    """Whether a name in audio/ is that of a file directly in it: nothing outside must ever be written."""
    plain = PurePosixPath(name).name == name == PureWindowsPath(name).name
    return plain and not name.startswith(".") and name.isprintable() and 0 < len(name.encode()) <= LONGEST_NAME


def is_left_out(name: str) -> bool:
    """Whether a name in audio/ is that of a file directly in it that is_clip does not take: people are told of it."""
    return bool(name) and "/" not in name and not name.startswith(".") and not is_clip(name)


def normal(name: str) -> str:
    """A file's name in Unicode's composed form (NFC): a Mac writes ü as u and its dots, which is the same name."""
    return unicodedata.normalize("NFC", name)


def printable(text: str) -> str:
    """With what no page and no terminal shows as escapes; names of files may hold any bytes."""
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)


def md5(file: Path) -> str:
    """Of a file's content, hex."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def named(paths: Collection[str]) -> str:
    """How many files, and the first few of them by name: "4 files (a.wav, b.wav, c.wav, ...)"."""
    few = ", ".join(sorted(paths)[:NAMED])
    return f"{len(paths)} file{'s' * (len(paths) != 1)} ({few}{', ...' * (len(paths) > NAMED)})"


@dataclass(frozen=True)
class Fetched:
    """A folder with TABLE and AUDIO in it, named as the data set shall be called.

    `origin`: the source that leads to the same data again, without secrets; of a path on this machine the last part.
    `left_out`: names of files that were in audio/ where it came from, and that no system would take here.
    """

    folder: Path
    origin: str
    left_out: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The data set's, in short."""
        return printable(self.folder.name)

    @property
    def table(self) -> Path:
        return self.folder / TABLE

    @cached_property
    def entries(self) -> tuple[Path, ...]:
        """What lies in audio/ and is not hidden, sorted."""
        return tuple(sorted(path for path in (self.folder / AUDIO).iterdir() if not path.name.startswith(".")))

    @cached_property
    def files(self) -> dict[str, Path]:
        """The entries by normal name; of two spellings of one name the normal one."""
        found: dict[str, Path] = {}
        for path in self.entries:
            name = normal(path.name)
            if name == path.name or name not in found:
                found[name] = path
        return found


@dataclass(frozen=True)
class Kind:
    """One kind of source.

    `fetch(source, settings, workspace)` puts what has to be made or downloaded under `workspace`, which is removed
    after the run. `folds(source)` are those that can be known without fetching anything, in order.
    """

    described: str
    matches: Callable[[str], bool]
    fetch: Callable[[str, IngestSettings, Path], Fetched]
    folds: Callable[[str], list[int]] = lambda _: []
