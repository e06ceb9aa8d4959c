"""Where clips come from. Each kind of source is a class in its own file; `parse_source` chooses the class."""

import re
from pathlib import Path

from components.ingest import SOURCES
from components.ingest.sources.base import Source, SourceError
from components.ingest.sources.bucket import BucketSource
from components.ingest.sources.demo import DemoSource
from components.ingest.sources.dvc import DVC_REMOTE, DvcSource
from components.ingest.sources.esc50 import Esc50Source
from components.ingest.sources.folder import FolderSource
from components.ingest.sources.layout import SourceFolder
from components.ingest.sources.zip_archive import ZipFileSource, ZipUrlSource

__all__ = ["DVC_REMOTE", "Source", "SourceError", "SourceFolder", "parse_source"]

NAMES: dict[str, type[Source]] = {"demo": DemoSource, "esc50": Esc50Source, "dvc": DvcSource}
SCHEMES: dict[str, type[Source]] = {
    "dvc:": DvcSource,
    "s3://": BucketSource,
    "https://": ZipUrlSource,
    "http://": ZipUrlSource,
}


def parse_source(text: str) -> Source:
    """Return the source that `text` names. Nothing is read yet.

    Raises:
        SourceError: `text` is not a source.
    """
    if text in NAMES:
        return NAMES[text](text)
    if re.match(r"[A-Za-z][\w+.-]*:", text, re.ASCII):
        if not text.isprintable():  # a local path may contain any bytes
            raise SourceError(f"source {text!r} has characters that are invalid in a URL; percent-encode them")
        for scheme, source_type in SCHEMES.items():
            if text.lower().startswith(scheme):
                return source_type(text)
    elif text.strip():
        is_zip = text.lower().endswith(".zip") and not Path(text).is_dir()
        return ZipFileSource(text) if is_zip else FolderSource(text)
    raise SourceError(f"source {text!r} is unknown; expected one of: {SOURCES}")
