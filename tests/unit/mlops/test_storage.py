"""Folders and S3 buckets behind one interface; S3 is a real server on loopback."""

import itertools
from collections.abc import Callable
from pathlib import Path

import boto3
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlops.storage import DELETE_BATCH, BucketStore, StorageError, Store, open_store

SEGMENTS = st.text("ab.", min_size=1, max_size=3).filter(lambda text: text not in (".", ".."))


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty store of either kind."""
    return open_store(str(tmp_path / "store") if request.param == "folder" else f"{request.getfixturevalue('s3')}/a/b/")


@pytest.fixture
def new_stores(s3: str, tmp_path: Path) -> Callable[[], list[Store]]:
    """A function that returns two empty stores, one of each kind."""
    numbers = itertools.count()
    return lambda: [open_store(f"{root}/{next(numbers)}") for root in (s3, str(tmp_path))]


def names(store: Store, folder: str = "") -> list[str]:
    return sorted(entry.name for entry in store.list(folder))


def test_entries_are_replaced_listed_and_deleted(store: Store) -> None:
    assert store.get("deep/name") is None and names(store) == []
    for content in (b"one", b"three"):
        store.put("deep/name", content)
        store.flush()
    assert store.get("deep/name") == b"three"
    assert [(entry.name, entry.size) for entry in store.list()] == [("deep/name", 5)]
    store.delete(["deep/name", "missing"])
    assert store.get("deep/name") is None and names(store) == []


def test_entries_are_read_in_order_with_none_for_missing_ones(store: Store) -> None:
    for number in range(0, 100, 2):
        store.put(str(number), str(number).encode())
    store.flush()
    found = list(store.get_many(map(str, range(100))))
    assert found == [str(number).encode() if number % 2 == 0 else None for number in range(100)]


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(paths=st.sets(st.lists(SEGMENTS, min_size=1, max_size=3).map(tuple), max_size=6), folder=SEGMENTS)
def test_list_returns_the_same_entries_for_both_kinds_of_store(
    paths: set[tuple[str, ...]], folder: str, new_stores: Callable[[], list[Store]]
) -> None:
    # A file system has no file and folder of the same name.
    files = {path for path in paths if not any(other != path and other[: len(path)] == path for other in paths)}
    expected = sorted("/".join(path) for path in files if path[0] == folder and len(path) > 1)
    for store in new_stores():
        for path in files:
            store.put("/".join(path), b"x")
        store.flush()
        assert names(store) == sorted(map("/".join, files))
        assert names(store, folder) == names(store, f"{folder}/") == expected


def test_objects_are_stored_below_the_prefix(s3: str) -> None:
    store = open_store(f"{s3}/some/prefix/")
    store.put("a", b"one")
    store.flush()
    assert store.address == f"{s3}/some/prefix" and names(open_store(s3)) == ["some/prefix/a"]


def test_bucket_names_with_underscores_are_accepted(s3: str) -> None:
    boto3.client("s3").create_bucket(Bucket="old_name")
    store = open_store("s3://old_name/x")
    store.put("a", b"one")
    store.flush()
    assert store.get("a") == b"one"


def test_more_entries_than_one_request_takes_are_listed_and_deleted(s3: str) -> None:
    store = open_store(s3)
    keys = [f"{number:05}" for number in range(DELETE_BATCH + 20)]
    for key in keys:
        store.put(key, b"")
    store.flush()
    assert [entry.name for entry in store.list()] == keys
    store.delete(keys)
    assert names(store) == []


def test_download_writes_a_file_or_nothing(s3: str, tmp_path: Path) -> None:
    store = BucketStore(s3)
    store.put("clip.wav", b"sound" * 1000)
    store.flush()
    store.download("clip.wav", tmp_path / "clip.wav")
    with pytest.raises(StorageError, match=r"missing\.wav does not exist"):
        store.download("missing.wav", tmp_path / "other.wav")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"clip.wav": b"sound" * 1000}


def test_a_file_in_place_of_a_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    store = open_store(str(tmp_path / "file"))
    with pytest.raises(StorageError, match="a cannot be read: Not a directory"):
        store.get("a")
    with pytest.raises(StorageError, match="file cannot be listed: Not a directory"):
        list(store.list())


@pytest.mark.parametrize("root", ["", " ", "gs://clips/cache", "S3://clips/cache", "https://host/x"])
def test_an_address_of_another_kind_is_refused(root: str) -> None:
    with pytest.raises(StorageError, match="is not a valid address; expected a folder or s3://bucket/prefix"):
        open_store(root)


@pytest.mark.parametrize("address", ["s3://", "s3:///a", "s3://UPPER/x", "s3://a", "s3://-a-/x", "s3://a b/x"])
def test_an_invalid_bucket_address_is_refused(address: str) -> None:
    with pytest.raises(StorageError, match="expected s3://bucket/prefix"):
        open_store(address)
