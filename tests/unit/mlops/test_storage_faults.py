"""S3 that breaks: what can be tried again is, and what cannot is said in a sentence that names the object."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from helpers.s3_faults import Faults, between

from components.ingest.step import ingest
from components.spectrograms import step
from mlops import etags
from mlops.storage import ATTEMPTS, BrokenOff, Bucket, Damaged, Object, StorageError
from pipeline.settings import PipelineSettings

CONTENT = bytes(range(256)) * 40


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long was waited between attempts, which the tests do not wait."""
    waited: list[float] = []
    monkeypatch.setattr("tenacity.nap.time.sleep", waited.append)
    return waited


@pytest.fixture
def faults(s3: str, s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Faults]:
    with between(s3_server) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield proxy


@pytest.fixture
def bucket(s3: str, faults: Faults) -> Bucket:
    return Bucket.of(f"{s3}/sets")


def put(bucket: Bucket, key: str, content: bytes = CONTENT) -> Object:
    bucket.put(key, content)
    return next(found for found in bucket.list(key) if found.key == key)


def download(bucket: Bucket, found: Object, path: Path) -> bytes | None:
    bucket.download(found, path)
    return path.read_bytes()


@pytest.mark.parametrize("fault", ["500", "503", "cut", "flip"])
@pytest.mark.parametrize("way", ["get", "download"])
def test_an_object_is_read_again_until_it_arrives_whole(
    way: str, fault: str, bucket: Bucket, faults: Faults, tmp_path: Path, waits: list[float]
) -> None:
    found = put(bucket, "clip.wav")
    faults.objects = [fault] * (ATTEMPTS - 1)
    assert (bucket.get("clip.wav") if way == "get" else download(bucket, found, tmp_path / "clip.wav")) == CONTENT
    assert faults.reads == ATTEMPTS
    if fault in ("cut", "flip"):
        assert len(waits) == ATTEMPTS - 1 and waits == sorted(waits)


def test_a_listing_and_a_put_survive_errors_of_the_server(bucket: Bucket, faults: Faults) -> None:
    faults.requests = ["500", "503"]
    bucket.put("clip.wav", CONTENT)
    faults.requests = ["503", "cut"]
    assert [found.key for found in bucket.list()] == ["clip.wav"]


@pytest.mark.parametrize(
    ("fault", "kind", "sentence"),
    [
        ("cut", BrokenOff, "s3://.*/sets/clip.wav: the connection broke off 4 times; try again"),
        ("flip", Damaged, "s3://.*/sets/clip.wav: its content does not fit its checksum; remove it or upload"),
        ("503", StorageError, "sets cannot be read: the server answers 503"),
    ],
)
def test_what_never_arrives_whole_is_named_and_the_endpoint_is_not_blamed(
    fault: str, kind: type[StorageError], sentence: str, bucket: Bucket, faults: Faults, tmp_path: Path
) -> None:
    found = put(bucket, "clip.wav")
    faults.always["clip"] = fault
    for read in (lambda: bucket.get("clip.wav"), lambda: bucket.download(found, tmp_path / "clip.wav")):
        with pytest.raises(kind, match=sentence) as raised:
            read()
        assert "AWS_ENDPOINT_URL" not in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_a_flipped_download_without_a_checksum_is_found_by_its_etag_and_read_again(
    bucket: Bucket, faults: Faults, tmp_path: Path
) -> None:
    found = put(bucket, "clip.wav")
    faults.drop = ("x-amz-checksum-crc32",)
    faults.objects = ["flip"]
    assert download(bucket, found, tmp_path / "clip.wav") == CONTENT and faults.reads == 2
    faults.always["clip"] = "flip"
    with pytest.raises(Damaged, match=r"clip\.wav: its content does not fit its ETag; upload it again"):
        bucket.download(found, tmp_path / "again.wav")


@pytest.mark.parametrize(
    "headers",
    [
        {"x-amz-server-side-encryption": "aws:kms"},
        {"x-amz-server-side-encryption": "aws:kms:dsse"},
        {"x-amz-server-side-encryption-customer-algorithm": "AES256"},
    ],
)
@pytest.mark.parametrize("etag", ["0123456789abcdef" * 2, f"{'0123456789abcdef' * 2}-2"])
def test_of_an_object_under_a_key_the_size_alone_is_checked(
    etag: str, headers: dict[str, str], bucket: Bucket, faults: Faults, tmp_path: Path
) -> None:
    faults.etag, faults.headers = etag, headers
    found = put(bucket, "clip.wav")
    assert found.etag == etag
    assert download(bucket, found, tmp_path / "clip.wav") == CONTENT
    with pytest.raises(StorageError, match=f"{len(CONTENT)} of 7 bytes arrived"):
        bucket.download(Object("clip.wav", 7, etag, found.modified), tmp_path / "again.wav")


def test_a_key_of_s3_itself_leaves_the_etag_an_md5(bucket: Bucket, faults: Faults, tmp_path: Path) -> None:
    faults.headers = {"x-amz-server-side-encryption": "AES256"}
    found = put(bucket, "clip.wav")
    with pytest.raises(Damaged, match="does not fit its ETag"):
        bucket.download(Object("clip.wav", found.size, "0" * 32, found.modified), tmp_path / "clip.wav")


def test_a_data_set_in_a_bucket_encrypted_under_a_key_is_ingested(
    demo_folder: Path, tiny: PipelineSettings, bucket: Bucket, faults: Faults, tmp_path: Path
) -> None:
    for file in (path for path in demo_folder.rglob("*") if path.is_file()):
        bucket.put(file.relative_to(demo_folder).as_posix(), file.read_bytes())
    faults.etag, faults.headers = "0123456789abcdef" * 2, {"x-amz-server-side-encryption": "aws:kms"}
    faults.objects = ["cut", "", "flip", "503"]
    plain = ingest(str(demo_folder), tiny.ingest, tmp_path / "plain")
    assert ingest(bucket.url, tiny.ingest, tmp_path / "dataset").digest == plain.digest


@pytest.mark.parametrize("sizes", [(5, 6, 5), (6, 5, 6), (5, 5, 1), (7,)])
def test_an_upload_in_parts_of_any_sizes_is_held_against_its_etag(
    sizes: tuple[int, ...], bucket: Bucket, tmp_path: Path
) -> None:
    contents = [bytes([number]) * (size * 2**20) for number, size in enumerate(sizes)]
    client, where = boto3.client("s3"), {"Bucket": bucket.name, "Key": f"{bucket.prefix}large"}
    upload = client.create_multipart_upload(**where)["UploadId"]
    done = [
        {
            "PartNumber": number,
            "ETag": client.upload_part(**where, UploadId=upload, PartNumber=number, Body=part)["ETag"],
        }
        for number, part in enumerate(contents, 1)
    ]
    client.complete_multipart_upload(**where, UploadId=upload, MultipartUpload={"Parts": done})
    (found,) = bucket.list()
    assert found.etag.endswith(f"-{len(sizes)}")
    assert download(bucket, found, tmp_path / "copy") == b"".join(contents)
    assert etags.multipart(tmp_path / "copy", [len(part) for part in contents]) == found.etag
    other = Object("large", found.size, f"{hashlib.md5(b'other').hexdigest()}-{len(sizes)}", found.modified)
    with pytest.raises(Damaged, match="does not fit its ETag"):
        bucket.download(other, tmp_path / "again")


def test_a_missing_object_that_is_answered_by_a_refusal_says_which_right_is_lacking(
    bucket: Bucket, faults: Faults
) -> None:
    faults.always["missing"] = "403"
    with pytest.raises(StorageError, match="no access; they need s3:GetObject, and s3:ListBucket too"):
        bucket.get("missing")


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("AWS_ENDPOINT_URL", "127.0.0.1:9000", "AWS_ENDPOINT_URL is no address of a server; write it like http://127"),
        ("AWS_ENDPOINT_URL", "localhost", "AWS_ENDPOINT_URL is no address of a server"),
        ("AWS_ENDPOINT_URL", "http://exa mple", "AWS_ENDPOINT_URL is no address of a server"),
        ("AWS_ENDPOINT_URL", "ftp://127.0.0.1:9", "AWS_ENDPOINT_URL is no address of a server"),
        ("AWS_ENDPOINT_URL_S3", "localhost", "AWS_ENDPOINT_URL_S3 is no address of a server"),
        ("AWS_PROFILE", "nobody", "there is no profile 'nobody' in AWS's configuration; mend AWS_PROFILE"),
        ("AWS_DEFAULT_REGION", "no region!", "'no region!' is no region; mend AWS_DEFAULT_REGION"),
    ],
)
def test_a_wrong_variable_is_named(
    name: str, value: str, sentence: str, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    for use in (lambda: bucket.get("a"), lambda: bucket.put("a", b""), lambda: list(bucket.list())):
        with pytest.raises(StorageError, match=sentence) as raised:
            use()
        assert "right and up" not in str(raised.value)


def test_a_missing_file_of_certificates_is_named(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", "/nowhere/ca.pem")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://127.0.0.1:9")
    with pytest.raises(StorageError, match=r"there is no file /nowhere/ca\.pem; mend AWS_CA_BUNDLE"):
        bucket.get("a")


def test_a_damaged_entry_of_the_cache_is_computed_again_and_a_flipped_answer_costs_nothing(
    dataset: Path, tiny: PipelineSettings, bucket: Bucket, faults: Faults, tmp_path: Path
) -> None:
    cache = f"{bucket.url}/cache"
    assert step.spectrograms(dataset, tiny.spectrograms, tmp_path / "one", cache).computed == 50
    entry = next(found for found in Bucket.of(cache).list() if "datasets" not in found.key)
    faults.objects = ["flip", "", "cut", "500"]
    assert step.spectrograms(dataset, tiny.spectrograms, tmp_path / "two", cache).computed == 0
    faults.always[entry.key] = "flip"
    assert step.spectrograms(dataset, tiny.spectrograms, tmp_path / "three", cache).computed == 1
    arrays = {(tmp_path / name / "spectrograms.npy").read_bytes() for name in ("one", "two", "three")}
    assert len(arrays) == 1
