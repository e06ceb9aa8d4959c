"""Where clips come from: each kind of source turns its address into a folder in ESC-50's layout."""

from pathlib import Path

from audiocnn.settings import IngestSettings
from components.ingest.sources import archive, bucket, demo, folder, official, pinned
from components.ingest.sources.kind import AUDIO, TABLE, Kind, SourceError

__all__ = ["AUDIO", "KINDS", "TABLE", "Kind", "SourceError", "fetch"]

# The first that matches wins; another kind is one file beside this one and one entry here.
KINDS = (demo.KIND, official.KIND, pinned.KIND, bucket.KIND, archive.URL, archive.FILE, folder.KIND)


def fetch(source: str, settings: IngestSettings, workspace: Path) -> Path:
    """The folder that `source` stands for; its name is the data set's.

    Raises:
        SourceError: see there.
    """
    kind = next((kind for kind in KINDS if kind.matches(source)), None)
    if kind is None:
        known = "; ".join(kind.described for kind in KINDS)
        raise SourceError(f"source {source!r} is of no known kind; known are: {known}")
    found = kind.fetch(source, settings, workspace)
    for part, what in ((TABLE, "the table of clips"), (AUDIO, "the folder of clips")):
        if not (found / part).exists():
            raise SourceError(f"source {source!r} holds no {part.as_posix()}, {what}, so it is no data set like ESC-50")
    return found
