"""Where clips come from: each kind of source turns its address into a folder in ESC-50's layout."""

from pathlib import Path

from components.ingest.settings import IngestSettings
from components.ingest.sources import archive, bucket, demo, folder, official, pinned
from components.ingest.sources.folder import SCHEME
from components.ingest.sources.kind import AUDIO, TABLE, Fetched, Kind, SourceError, local_path, printable

__all__ = [
    "AUDIO",
    "DVC_REMOTE",
    "KINDS",
    "TABLE",
    "Fetched",
    "Kind",
    "SourceError",
    "fetch",
    "local_path",
    "printable",
]

DVC_REMOTE = pinned.REMOTE
# The first that matches wins; another kind is one file beside this one and one entry here.
KINDS = (demo.KIND, official.KIND, pinned.KIND, bucket.KIND, archive.URL, archive.FILE, folder.KIND)


def kind_of(source: str) -> Kind:
    """The kind that `source` is of.

    Raises:
        SourceError: none, or one that cannot even be written down.
    """
    if SCHEME.match(source) and not source.isprintable():  # a path on this machine may hold any bytes
        raise SourceError(f"source {source!r} holds signs that belong in no address; write them as % and two digits")
    kind = next((kind for kind in KINDS if kind.matches(source)), None)
    if kind is None:
        known = "; ".join(kind.described for kind in KINDS)
        raise SourceError(f"source {source!r} is of no known kind; known are: {known}")
    return kind


def known_folds(source: str) -> list[int]:
    """The folds of a source, in order, where they can be known without fetching it; else none.

    Raises:
        SourceError: it is of no known kind.
    """
    return kind_of(source).folds(source)


def is_local(source: str) -> bool:
    """Whether `source` is a path on this machine, which a container does not see by itself."""
    return next((kind for kind in KINDS if kind.matches(source)), None) in (folder.KIND, archive.FILE)


def require_there(source: str) -> None:
    """Look for a path on this machine before anything starts.

    Raises:
        SourceError: there is no such file or folder, or it is no data set.
    """
    if not is_local(source):
        return
    path = local_path(source)
    if not path.exists():
        raise SourceError(f"source {source!r}: there is no such file or folder")
    if path.is_dir():
        _require_layout(source, path)
    elif kind_of(source) is folder.KIND or not path.is_file():
        raise SourceError(f"source {source!r} is neither a folder nor a .zip file")


def pinned_by_content(source: str) -> str:
    """What stands for the same data wherever it is read: a revision of Git is none of a container's business.

    Raises:
        SourceError: it is of no known kind, or names a revision that is not there.
    """
    return pinned.resolve(source) if kind_of(source) is pinned.KIND else source


def fetch(source: str, settings: IngestSettings, workspace: Path) -> Fetched:
    """The folder that `source` stands for.

    Raises:
        SourceError: see there.
    """
    found = kind_of(source).fetch(source, settings, workspace)
    _require_layout(source, found.folder)
    return found


def _require_layout(source: str, place: Path) -> None:
    for part, what in ((TABLE, "the table of clips"), (AUDIO, "the folder of clips")):
        if not (place / part).exists():
            raise SourceError(f"source {source!r} holds no {part.as_posix()}, {what}, so it is no data set like ESC-50")
