"""The layout that every source is brought into: a folder with meta/esc50.csv and audio/."""

import csv
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath

TABLE = Path("meta", "esc50.csv")
AUDIO = Path("audio")
MAX_NAME_BYTES = 255  # limit of common file systems


@dataclass(frozen=True)
class SourceFolder:
    """A local folder with TABLE and AUDIO in it. Its name is the name of the data set.

    Attributes:
        origin: a source that gives the same data again, without secrets; for a local path, its last component.
        skipped: names of files in audio/ of the source that cannot be stored on every system and were left out.
    """

    folder: Path
    origin: str
    skipped: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return printable(self.folder.name)

    @property
    def table(self) -> Path:
        return self.folder / TABLE

    @cached_property
    def entries(self) -> tuple[Path, ...]:
        """Everything in audio/ that is not hidden, sorted."""
        return tuple(sorted(path for path in (self.folder / AUDIO).iterdir() if not path.name.startswith(".")))

    @cached_property
    def files(self) -> dict[str, Path]:
        """The entries by NFC name."""
        return {nfc(path.name): path for path in self.entries}


def is_text(value: str) -> bool:
    """Return whether a value is one printable line without surrounding spaces."""
    return bool(value) and value == value.strip() and value.isprintable()


def is_clip_name(name: str) -> bool:
    """Return whether `name` is a visible file name without a path on every system, so that only audio/ is accessed."""
    is_plain = PurePosixPath(name).name == name == PureWindowsPath(name).name
    return is_plain and is_text(name) and not name.startswith(".") and len(name.encode()) <= MAX_NAME_BYTES


def select_files(paths: Iterable[str]) -> tuple[list[str], tuple[str, ...]]:
    """Select the clip table and the clips directly in audio/ from the relative paths of a data set.

    Returns:
        the selected paths, and the visible names in audio/ that are not valid on every system and are left out.
    """
    prefix, selected, skipped = f"{AUDIO.as_posix()}/", [], []
    for path in paths:
        name = path.removeprefix(prefix) if path.startswith(prefix) else ""
        if path == TABLE.as_posix() or is_clip_name(name):
            selected.append(path)
        elif name and "/" not in name and not name.startswith("."):
            skipped.append(name)
    return selected, tuple(skipped)


def make_folders(folder: Path) -> Path:
    for part in (AUDIO, TABLE.parent):
        (folder / part).mkdir(parents=True)
    return folder


def nfc(name: str) -> str:
    """Normalize a file name to Unicode NFC; macOS stores names in NFD."""
    return unicodedata.normalize("NFC", name)


def printable(text: str) -> str:
    """Escape characters that cannot be displayed; file names may contain any bytes."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def folds_in_table(table: Iterable[str]) -> list[int]:
    """Return the fold numbers in the lines of a clip table, sorted; the step ingest reports invalid ones.

    Raises:
        ValueError, csv.Error: the text is not a table.
    """
    values = {(row.get("fold") or "").strip() for row in csv.DictReader(table)}
    return sorted({int(value) for value in values if value.isdecimal()})
