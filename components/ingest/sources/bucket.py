"""A data set in a bucket: s3://bucket/prefix with meta/esc50.csv and audio/ below it."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from components.ingest.progress import report_progress
from components.ingest.settings import IngestSettings
from components.ingest.sources.kind import AUDIO, TABLE, Fetched, Kind, SourceError, is_clip, is_left_out
from mlops import storage


def _fetch(source: str, settings: IngestSettings, workspace: Path) -> Fetched:
    """Download the table and the clips, several at once; each is held against the size and ETag of the listing."""
    bucket = storage.Bucket.of(source)
    folder = workspace / (bucket.prefix.strip("/").rpartition("/")[2] or bucket.name)
    (folder / AUDIO).mkdir(parents=True)
    (folder / TABLE).parent.mkdir()
    prefix = f"{AUDIO.as_posix()}/"
    wanted = [found for found in bucket.list(TABLE.as_posix()) if found.key == TABLE.as_posix()]
    clips = {found.key.removeprefix(prefix): found for found in bucket.list(prefix)}
    wanted += [found for name, found in clips.items() if is_clip(name)]
    if not wanted:
        raise SourceError(f"source {source!r} holds neither {TABLE.as_posix()} nor a clip below {prefix}")
    size = sum(found.size for found in wanted)
    if size > settings.max_source_bytes:
        raise SourceError(
            f"source {source!r} holds {size} bytes; ingest.max_source_bytes allows {settings.max_source_bytes}"
        )
    with ThreadPoolExecutor(storage.THREADS) as pool:
        try:
            done = pool.map(lambda found: bucket.download(found, folder / found.key), wanted)
            for number, _ in enumerate(done, 1):
                report_progress("downloaded", number, len(wanted))
        finally:
            pool.shutdown(cancel_futures=True)
    return Fetched(folder, bucket.url, tuple(filter(is_left_out, clips)))


KIND = Kind("s3://bucket/prefix with the same layout", lambda source: source.lower().startswith(storage.SCHEME), _fetch)
