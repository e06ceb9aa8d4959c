"""A data set in an S3 bucket: meta/esc50.csv and audio/ below a prefix."""

from pathlib import Path

from components.ingest.settings import IngestSettings
from components.ingest.sources.base import Source, SourceError, fetch_files
from components.ingest.sources.layout import AUDIO, TABLE, SourceFolder, make_folders, select_files
from mlops.storage import BucketStore


class BucketSource(Source):
    """`s3://bucket/prefix`."""

    def _fetch(self, settings: IngestSettings, workspace: Path, /) -> SourceFolder:
        bucket = BucketStore(self.text)
        sizes = {entry.name: entry.size for part in (TABLE.parent, AUDIO) for entry in bucket.list(part.as_posix())}
        paths, skipped = select_files(sizes)
        if not paths:
            raise SourceError(f"source {self.text!r} has neither {TABLE.as_posix()} nor clips in {AUDIO.as_posix()}/")
        if (size := sum(sizes[path] for path in paths)) > settings.max_source_bytes:
            raise SourceError(
                f"source {self.text!r} has {size} bytes; the limit is {settings.max_source_bytes} "
                "(ingest.max_source_bytes)"
            )
        folder = make_folders(workspace / (bucket.prefix.strip("/").rpartition("/")[2] or bucket.bucket))
        fetch_files(lambda path: bucket.download(path, folder / path), paths, "downloaded")
        return SourceFolder(folder, bucket.address, skipped)
