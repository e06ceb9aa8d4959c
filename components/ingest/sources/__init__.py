"""Where clips come from. Each kind of source is a class in its own file, listed in `Source.types`."""

from components.ingest.sources.base import Source, SourceError
from components.ingest.sources.bucket import BucketSource
from components.ingest.sources.demo import DemoSource
from components.ingest.sources.dvc import DVC_REMOTE, DvcSource
from components.ingest.sources.esc50 import Esc50Source
from components.ingest.sources.folder import FolderSource
from components.ingest.sources.layout import SourceFolder
from components.ingest.sources.zip_archive import ZipFileSource, ZipUrlSource

__all__ = ["DVC_REMOTE", "Source", "SourceError", "SourceFolder"]

Source.types = (DemoSource, Esc50Source, DvcSource, BucketSource, ZipUrlSource, ZipFileSource, FolderSource)
