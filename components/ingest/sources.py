"""Where clips come from: each kind of source turns its address into a folder in ESC-50's layout."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from audiocnn.demo import write_demo
from audiocnn.errors import AudioCNNError
from components.ingest.progress import report_progress

TABLE = Path("meta", "esc50.csv")
AUDIO = Path("audio")


class SourceError(AudioCNNError):
    """A source that is of no known kind, is not there, or holds no data set."""


@dataclass(frozen=True)
class Kind:
    """One kind of source.

    `fetch(source, workspace)` returns a folder with TABLE and AUDIO in it, named as the data set shall be called; what
    has to be made or downloaded goes under `workspace`, which is removed after the run.
    """

    described: str
    matches: Callable[[str], bool]
    fetch: Callable[[str, Path], Path]


def fetch(source: str, workspace: Path) -> Path:
    """The folder that `source` stands for; its name is the data set's.

    Raises:
        SourceError: see there.
    """
    kind = next((kind for kind in KINDS if kind.matches(source)), None)
    if kind is None:
        known = "; ".join(kind.described for kind in KINDS)
        raise SourceError(f"source {source!r} is of no known kind; known are: {known}")
    folder = kind.fetch(source, workspace)
    for part, what in ((TABLE, "the table of clips"), (AUDIO, "the folder of clips")):
        if not (folder / part).exists():
            raise SourceError(f"source {source!r} holds no {part.as_posix()}, {what}, so it is no data set like ESC-50")
    return folder


def _demo(_: str, workspace: Path) -> Path:
    return write_demo(workspace / "demo", progress=lambda done, clips: report_progress("made", done, clips))


def _folder(source: str, _: Path) -> Path:
    folder = Path(source).expanduser()
    if not folder.is_dir():
        raise SourceError(f"source {source!r}: there is no such folder")
    return folder.resolve()


# The first that matches wins; another kind is one file beside this one and one line here.
KINDS = (
    Kind("demo, the embedded data set", lambda source: source == "demo", _demo),
    Kind(
        "a folder with meta/esc50.csv and audio/",
        lambda source: bool(source.strip()) and not re.match(r"[a-z][a-z0-9+.-]*:", source, re.IGNORECASE),
        _folder,
    ),
)
