"""A data set in an S3 bucket: meta/esc50.csv and audio/ below a prefix."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from components.ingest.settings import IngestSettings
from components.ingest.sources.base import Source, SourceError
from components.ingest.sources.layout import AUDIO, TABLE, SourceFolder, is_clip_name, is_skipped_name
from mlops import storage
from mlops.progress import report_progress


class BucketSource(Source):
    """`s3://bucket/prefix`."""

    description = "s3://bucket/prefix"

    @classmethod
    def matches(cls, text: str) -> bool:
        """Return whether `text` is an s3:// URL."""
        return text.lower().startswith(storage.SCHEME)

    def _fetch(self, settings: IngestSettings, workspace: Path, /) -> SourceFolder:
        """Download the table and the clips with several threads."""
        bucket = storage.BucketStore(self.text)
        folder = workspace / (bucket.prefix.strip("/").rpartition("/")[2] or bucket.bucket)
        (folder / AUDIO).mkdir(parents=True)
        (folder / TABLE).parent.mkdir()
        table, prefix = TABLE.as_posix(), f"{AUDIO.as_posix()}/"
        objects = [entry for entry in bucket.list(TABLE.parent.as_posix()) if entry.name == table]
        clips = {entry.name.removeprefix(prefix): entry for entry in bucket.list(AUDIO.as_posix())}
        objects += [entry for name, entry in clips.items() if is_clip_name(name)]
        if not objects:
            raise SourceError(f"source {self.text!r} has neither {table} nor clips in {prefix}")
        size = sum(entry.size for entry in objects)
        if size > settings.max_source_bytes:
            raise SourceError(
                f"source {self.text!r} has {size} bytes; the limit is {settings.max_source_bytes} "
                "(ingest.max_source_bytes)"
            )
        with ThreadPoolExecutor(storage.THREADS) as pool:
            try:
                downloads = pool.map(lambda entry: bucket.download(entry.name, folder / entry.name), objects)
                for done, _ in enumerate(downloads, 1):
                    report_progress("ingest", "downloaded", done, len(objects), "files")
            finally:
                pool.shutdown(cancel_futures=True)
        return SourceFolder(folder, bucket.address, tuple(filter(is_skipped_name, clips)))
