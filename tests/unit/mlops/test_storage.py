"""S3 through a real server: what is written is read, and what goes wrong is said in a sentence."""

import boto3
import pytest
from boto3.s3.transfer import TransferConfig
from hypothesis import given
from hypothesis import strategies as st

from mlops.storage import LISTED, Bucket, Object, StorageError


@pytest.fixture
def bucket(s3: str) -> Bucket:
    return Bucket.of(f"{s3}/some/prefix/")


def put(bucket: Bucket, key: str, content: bytes) -> Object:
    bucket.put(key, content)
    return next(found for found in bucket.list(key) if found.key == key)


def test_objects_live_below_the_prefix(bucket: Bucket, s3: str) -> None:
    assert bucket.get("a") is None
    bucket.put("a", b"one")
    bucket.put("a", b"two")
    assert bucket.get("a") == b"two"
    assert [found.key for found in Bucket.of(s3).list()] == ["some/prefix/a"]
    bucket.delete(["a", "never there"])
    assert bucket.get("a") is None and list(bucket.list()) == []


def test_a_bucket_with_an_old_name_can_be_used(s3: str) -> None:
    boto3.client("s3").create_bucket(Bucket="old_name")
    Bucket.of("s3://old_name/x").put("a", b"one")
    assert Bucket.of("s3://old_name/x").get("a") == b"one"


def test_many_are_read_in_order_and_gaps_are_none(bucket: Bucket) -> None:
    for number in range(0, 100, 2):
        bucket.put(str(number), str(number).encode())
    found = list(bucket.get_many(map(str, range(100))))
    assert found == [str(number).encode() if number % 2 == 0 else None for number in range(100)]


def test_more_than_a_page_are_listed_and_deleted(bucket: Bucket) -> None:
    keys = [f"{number:05}" for number in range(LISTED + 20)]
    for key in keys:
        bucket.put(key, b"")
    assert [found.key for found in bucket.list()] == keys
    bucket.delete(keys)
    assert list(bucket.list()) == []


def test_a_download_is_held_against_size_and_etag(bucket: Bucket, tmp_path) -> None:
    found = put(bucket, "clip.wav", b"sound" * 1000)
    bucket.download(found, tmp_path / "clip.wav")
    assert (tmp_path / "clip.wav").read_bytes() == b"sound" * 1000
    bucket.put("clip.wav", b"other" * 1000)
    with pytest.raises(StorageError, match="does not fit its ETag"):
        bucket.download(found, tmp_path / "again.wav")
    bucket.put("clip.wav", b"short")
    with pytest.raises(StorageError, match="5 of 5000 bytes arrived"):
        bucket.download(found, tmp_path / "again.wav")
    assert [path.name for path in tmp_path.iterdir()] == ["clip.wav"]


def test_an_upload_in_parts_is_held_against_the_etag_of_its_parts(bucket: Bucket, tmp_path) -> None:
    content = bytes(range(256)) * 2**16  # 16 MB, in parts of 5
    (tmp_path / "large").write_bytes(content)
    parts = TransferConfig(multipart_threshold=1, multipart_chunksize=5 * 2**20)
    boto3.client("s3").upload_file(str(tmp_path / "large"), bucket.name, f"{bucket.prefix}large", Config=parts)
    (found,) = bucket.list()
    assert found.etag.endswith("-4")
    bucket.download(found, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == content


def test_what_a_person_can_mend_is_one_sentence_without_secrets(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StorageError, match="s3://no-such-bucket cannot be read: there is no such bucket") as raised:
        Bucket.of("s3://no-such-bucket").get("a")
    assert "secret" not in str(raised.value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StorageError, match="is AWS_ENDPOINT_URL right and up"):
        bucket.get("a")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:10")
    with pytest.raises(StorageError, match="there are no credentials; set AWS_ACCESS_KEY_ID"):
        bucket.get("a")


@given(st.text(max_size=30) | st.sampled_from(["s3://", "s3:///a", "s3://UPPER/x", "s3://a", "https://b/c"]))
def test_an_address_is_a_bucket_or_an_error(url: str) -> None:
    try:
        assert Bucket.of(url).url.startswith("s3://")
    except StorageError as error:
        assert "expected s3://bucket/prefix" in str(error)
