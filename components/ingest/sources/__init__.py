"""Where clips come from: each kind of source turns its address into a folder in ESC-50's layout."""

from pathlib import Path

from audiocnn.settings import IngestSettings
from components.ingest.sources import archive, bucket, demo, folder, official, pinned
from components.ingest.sources.folder import SCHEME
from components.ingest.sources.kind import AUDIO, TABLE, Fetched, Kind, SourceError, printable

__all__ = ["AUDIO", "DVC_REMOTE", "KINDS", "TABLE", "Fetched", "Kind", "SourceError", "fetch", "printable"]

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


def is_folder(source: str) -> bool:
    """Whether `source` is read where it lies, so that its table can be looked into beforehand."""
    return kind_of(source) is folder.KIND


def is_local(source: str) -> bool:
    """Whether `source` is a path on this machine, which a container does not see by itself."""
    return next((kind for kind in KINDS if kind.matches(source)), None) in (folder.KIND, archive.FILE)


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
    for part, what in ((TABLE, "the table of clips"), (AUDIO, "the folder of clips")):
        if not (found.folder / part).exists():
            raise SourceError(f"source {source!r} holds no {part.as_posix()}, {what}, so it is no data set like ESC-50")
    return found
