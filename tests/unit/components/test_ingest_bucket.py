"""The source s3://bucket/prefix."""

from pathlib import Path

import pytest
from helpers.ingest import IngestFolder, ingest, settings
from helpers.project import ROOT

from components.ingest.sources import SourceError
from mlops.artifacts import DatasetFolder
from mlops.storage import BucketStore, StorageError


@pytest.fixture
def folder(tmp_path: Path) -> IngestFolder:
    made = IngestFolder(tmp_path / "clips")
    made.write()
    return made


@pytest.fixture
def source(folder: IngestFolder, s3: str) -> str:
    """The folder's files in a bucket, among other objects."""
    bucket = BucketStore(f"{s3}/sets/pets")
    for file in (path for path in folder.path.rglob("*") if path.is_file()):
        bucket.put(file.relative_to(folder.path).as_posix(), file.read_bytes())
    for key in ("README.md", "meta/esc50.csv.bak", "audio/deeper/x.wav", "audio/../../evil.wav", "audio/.hidden"):
        bucket.put(key, b"other")
    bucket.flush()
    return bucket.address


def test_digest_equals_that_of_the_folder(source: str, folder: IngestFolder, tmp_path: Path) -> None:
    plain = ingest(str(folder.path), settings(ROOT), tmp_path / "plain")
    assert ingest(source, settings(ROOT), tmp_path / "out" / "dataset") == plain
    record = DatasetFolder(tmp_path / "out" / "dataset").record()
    assert (record.source, record.origin) == ("pets", source)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["dataset"]
    assert not list(tmp_path.rglob("evil.wav"))


def test_too_large_data_set_is_refused_before_download(source: str, tmp_path: Path) -> None:
    small = settings(ROOT).replace(max_source_bytes=1000)
    with pytest.raises(SourceError, match=r"the limit is 1000 \(ingest\.max_source_bytes\)"):
        ingest(source, small, tmp_path / "out" / "dataset")
    assert not list((tmp_path / "out").iterdir())


def test_empty_prefix_and_missing_bucket_are_reported(s3: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"has neither meta/esc50\.csv nor clips in audio/"):
        ingest(f"{s3}/nothing", settings(ROOT), tmp_path / "dataset")
    with pytest.raises(StorageError, match="the bucket does not exist"):
        ingest("s3://no-such-bucket/here", settings(ROOT), tmp_path / "dataset")


def test_clip_with_invalid_file_name_is_reported_as_unlisted(
    source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bucket = BucketStore(source)
    bucket.put("audio/a:b.wav", b"other")
    bucket.flush()
    ingest(source, settings(ROOT), tmp_path / "dataset")
    assert "1 of 9 files, for example a:b.wav" in (tmp_path / "dataset" / "findings.csv").read_text()


def test_file_name_of_255_bytes_is_downloaded(folder: IngestFolder, source: str, tmp_path: Path) -> None:
    name = f"{'a' * 251}.wav"
    (folder.audio / "1-1-0.wav").rename(folder.audio / name)
    folder.row("1-1-0.wav")["filename"] = name
    folder.write()
    bucket = BucketStore(source)
    bucket.put("meta/esc50.csv", folder.table.read_bytes())
    bucket.put(f"audio/{name}", (folder.audio / name).read_bytes())
    bucket.delete(["audio/1-1-0.wav"])
    bucket.flush()
    assert ingest(source, settings(ROOT), tmp_path / "dataset") == ingest(
        str(folder.path), settings(ROOT), tmp_path / "plain"
    )
