"""A data set in a bucket."""

from pathlib import Path

import pytest
from helpers.ingest import IngestFolder, settings
from helpers.project import ROOT, read_json

from components.ingest.sources.kind import SourceError
from components.ingest.step import ingest
from mlops.storage import Bucket, StorageError


@pytest.fixture
def folder(tmp_path: Path) -> IngestFolder:
    made = IngestFolder(tmp_path / "clips")
    made.write()
    return made


@pytest.fixture
def source(folder: IngestFolder, s3: str) -> str:
    """The folder's files in a bucket, and others that are none of the data set's."""
    bucket = Bucket.of(f"{s3}/sets/pets")
    for file in (path for path in folder.path.rglob("*") if path.is_file()):
        bucket.put(file.relative_to(folder.path).as_posix(), file.read_bytes())
    for key in ("README.md", "meta/esc50.csv.bak", "audio/deeper/x.wav", "audio/../../evil.wav", "audio/.hidden"):
        bucket.put(key, b"other")
    return bucket.url


def test_gives_the_digest_of_the_folder(source: str, folder: IngestFolder, tmp_path: Path) -> None:
    plain = ingest(str(folder.path), settings(ROOT), tmp_path / "plain")
    assert ingest(source, settings(ROOT), tmp_path / "out" / "dataset") == plain
    described = read_json(tmp_path / "out" / "dataset" / "dataset.json")
    assert (described["source"], described["origin"]) == ("pets", source)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["dataset"]
    assert not list(tmp_path.rglob("evil.wav"))


def test_larger_than_allowed_is_refused_before_anything_is_fetched(source: str, tmp_path: Path) -> None:
    small = settings(ROOT).replace(max_source_bytes=1000)
    with pytest.raises(SourceError, match=r"ingest\.max_source_bytes allows 1000"):
        ingest(source, small, tmp_path / "out" / "dataset")
    assert not list((tmp_path / "out").iterdir())


def test_empty_or_unreachable_is_said(s3: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"holds neither meta/esc50\.csv nor a clip"):
        ingest(f"{s3}/nothing", settings(ROOT), tmp_path / "dataset")
    with pytest.raises(StorageError, match="there is no such bucket"):
        ingest("s3://no-such-bucket/here", settings(ROOT), tmp_path / "dataset")


def test_a_clip_whose_name_cannot_be_written_here_is_told(
    source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Bucket.of(source).put("audio/a:b.wav", b"other")
    ingest(source, settings(ROOT), tmp_path / "dataset")
    assert "1 of 9 files, a:b.wav the first" in (tmp_path / "dataset" / "findings.csv").read_text()
