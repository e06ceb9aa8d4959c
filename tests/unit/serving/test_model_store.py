"""The model store in a folder and on S3."""

import os
from pathlib import Path

import pytest
from helpers.torchserve import INDEX
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.torchserve.model_store import ModelStore, ModelStoreError, archive_digest, verify


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ModelStore:
    return ModelStore(f"{request.getfixturevalue('s3')}/models" if request.param == "s3" else str(tmp_path / "models"))


def archive(folder: Path, name: str, content: bytes = b"content") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_bytes(content)
    return path


def test_index_is_read_as_it_was_written(store):
    assert store.index() is None
    store.write_index(INDEX)
    assert store.index() == INDEX


@pytest.mark.parametrize(("archive", "served"), [("a-b-7.48213.mar", "7.48213"), ("sounds-7.mar", "7.0")])
def test_served_version_is_in_the_name_of_the_archive(archive, served):
    assert INDEX.replace(archive=archive).served_version == served


def test_releases_differ_in_more_than_their_time():
    assert INDEX.is_same_release(INDEX.replace(written_at="later"))
    for changes in ({"version": 8}, {"sha256": "1" * 64}, {"workers": 1}, {"batch_size": 1}, {"max_batch_delay_ms": 0}):
        assert not INDEX.is_same_release(INDEX.replace(**changes))


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"name": "sounds", "version": "7"}', b"\xff"])
def test_damaged_index_is_refused(tmp_path, content):
    archive(tmp_path, "index.json", content)
    with pytest.raises(ModelStoreError, match=r"index\.json is not an index of this version of audiocnn; delete it"):
        ModelStore(str(tmp_path)).index()


def test_copies_follow_the_store(store, tmp_path):
    local = tmp_path / "local"
    local.mkdir()
    store.put(archive(tmp_path / "new", "sounds-6.mar"))
    store.copy_archives(local)
    copied = (local / "sounds-6.mar").stat().st_ino
    store.put(archive(tmp_path / "new", "sounds-7.mar", b"seven"))
    store.write_index(INDEX)
    store.copy_archives(local)
    assert (local / "sounds-6.mar").stat().st_ino == copied  # not copied again
    assert (local / "sounds-7.mar").read_bytes() == b"seven"
    store.put(archive(tmp_path / "new", "sounds-7.mar", b"other content"))
    store.delete("sounds-6.mar")
    store.copy_archives(local)
    assert [path.name for path in local.iterdir()] == ["sounds-7.mar"]
    assert (local / "sounds-7.mar").read_bytes() == b"other content"


def test_only_other_archives_of_the_model_are_deleted(store, tmp_path):
    names = ["sounds-6.mar", "sounds-7.41.mar", "sounds-7.42.mar", "sounds-other-6.1.mar", "other-6.1.mar"]
    for name in names:
        store.put(archive(tmp_path / "new", name))
    store.delete_other_archives(INDEX)
    assert [name for name in names if store.contains(name)] == names[2:]


def test_missing_or_damaged_archive_is_refused(tmp_path):
    path = archive(tmp_path, "sounds-7.42.mar")
    verify(path, INDEX.replace(sha256=archive_digest(path)))
    with pytest.raises(ModelStoreError, match=r"sounds-7\.42\.mar: its SHA-256 differs from that in index\.json"):
        verify(path, INDEX)
    path.unlink()
    with pytest.raises(ModelStoreError, match=r"sounds-7\.42\.mar: the index names it, but the model store lacks it"):
        verify(path, INDEX)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(modified=st.floats(0, 4e9), size=st.integers(0, 3))
def test_no_archive_is_copied_twice_whatever_its_time(tmp_path, modified, size):
    source, local = tmp_path / "source", tmp_path / "copies"
    local.mkdir(exist_ok=True)
    path = archive(source, "sounds-7.mar", b"a" * size)
    os.utime(path, (modified, modified))
    store = ModelStore(str(source))
    store.copy_archives(local)
    copied = (local / path.name).stat().st_ino
    store.copy_archives(local)
    assert (local / path.name).stat().st_ino == copied
