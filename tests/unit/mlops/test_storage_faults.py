"""S3 that fails: transient faults are retried; permanent ones are reported with a remedy."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.s3_faults import Faults, start_proxy

from components.ingest.step import ingest
from components.spectrograms import step
from mlops.storage import READ_ATTEMPTS, BucketStore, DamagedObjectError, StorageError
from pipeline.settings import PipelineSettings

CONTENT = bytes(range(256)) * 40


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Record the seconds between attempts instead of waiting."""
    recorded: list[float] = []
    monkeypatch.setattr("tenacity.nap.time.sleep", recorded.append)
    return recorded


@pytest.fixture
def faults(s3: str, s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Faults]:
    with start_proxy(s3_server) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield proxy


@pytest.fixture
def store(s3: str, faults: Faults) -> BucketStore:
    return BucketStore(f"{s3}/sets")


@pytest.fixture(params=["get", "download"])
def read(request: pytest.FixtureRequest, store: BucketStore, tmp_path: Path) -> Callable[[str], bytes | None]:
    """Read an object by either method."""

    def download(name: str) -> bytes:
        store.download(name, tmp_path / "files" / name)
        return (tmp_path / "files" / name).read_bytes()

    return store.get if request.param == "get" else download


def put(store: BucketStore, name: str, content: bytes = CONTENT) -> None:
    store.put(name, content)
    store.flush()


@pytest.mark.parametrize("fault", ["500", "503", "cut", "flip"])
def test_a_read_is_repeated_until_the_content_is_complete(
    fault: str, read: Callable[[str], bytes | None], store: BucketStore, faults: Faults, waits: list[float]
) -> None:
    put(store, "clip.wav")
    faults.objects = [fault] * (READ_ATTEMPTS - 1)
    assert read("clip.wav") == CONTENT
    assert faults.reads == READ_ATTEMPTS
    if fault in ("cut", "flip"):
        assert len(waits) == READ_ATTEMPTS - 1 and waits == sorted(waits)


def test_list_and_put_are_repeated_after_server_errors(store: BucketStore, faults: Faults) -> None:
    faults.requests = ["500", "503"]
    put(store, "clip.wav")
    faults.requests = ["503", "cut"]
    assert [entry.name for entry in store.list()] == ["clip.wav"]


@pytest.mark.parametrize(
    ("fault", "kind", "message"),
    [
        ("cut", DamagedObjectError, r"/sets/clip\.wav is incomplete or damaged: .*; try again, or upload it again"),
        ("flip", DamagedObjectError, r"/sets/clip\.wav is incomplete or damaged: Expected checksum .*; try again"),
        ("503", StorageError, "sets cannot be read: the server answered 503"),
    ],
)
def test_a_permanent_fault_is_an_error_that_names_the_object(
    fault: str,
    kind: type[StorageError],
    message: str,
    read: Callable[[str], bytes | None],
    store: BucketStore,
    faults: Faults,
    tmp_path: Path,
) -> None:
    put(store, "clip.wav")
    faults.always["clip"] = fault
    with pytest.raises(kind, match=message) as raised:
        read("clip.wav")
    assert "AWS_ENDPOINT_URL" not in str(raised.value)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_get_many_yields_none_for_a_damaged_object(store: BucketStore, faults: Faults) -> None:
    for name in ("one", "two"):
        put(store, name)
    faults.always["two"] = "flip"
    assert list(store.get_many(["one", "two"])) == [CONTENT, None]


def test_ingest_from_an_unreliable_bucket_gives_the_same_digest(
    demo_folder: Path, tiny: PipelineSettings, store: BucketStore, faults: Faults, tmp_path: Path
) -> None:
    for file in (path for path in demo_folder.rglob("*") if path.is_file()):
        store.put(file.relative_to(demo_folder).as_posix(), file.read_bytes())
    store.flush()
    faults.objects = ["cut", "", "flip", "503"]
    expected = ingest(str(demo_folder), tiny.ingest, tiny.spectrograms, tmp_path / "plain").digest
    assert ingest(store.address, tiny.ingest, tiny.spectrograms, tmp_path / "dataset").digest == expected


def test_damaged_cache_entries_are_recomputed(
    dataset: Path, tiny: PipelineSettings, store: BucketStore, faults: Faults, tmp_path: Path
) -> None:
    cache = f"{store.address}/cache"

    def run(name: str) -> int:
        return step.spectrograms(dataset, tiny.spectrograms, tmp_path / name, cache).computed

    assert run("one") == 50
    entry = next(found for found in BucketStore(cache).list() if "datasets" not in found.name)
    faults.objects = ["flip", "", "cut", "500"]
    assert run("two") == 0, "transient faults must not cost entries"
    faults.always[entry.name] = "flip"
    assert run("three") == 1
    assert len({(tmp_path / name / "spectrograms.npy").read_bytes() for name in ("one", "two", "three")}) == 1


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"AWS_ENDPOINT_URL": "127.0.0.1:9000"}, "Invalid endpoint: 127.0.0.1:9000; check AWS_ENDPOINT_URL"),
        ({"AWS_ENDPOINT_URL": "http://exa mple"}, "Invalid endpoint: http://exa mple; check AWS_ENDPOINT_URL"),
        ({"AWS_ENDPOINT_URL": "ftp://127.0.0.1:9"}, "check AWS_ENDPOINT_URL"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "Could not connect .*; check AWS_ENDPOINT_URL"),
        ({"AWS_PROFILE": "unknown"}, r"profile \(unknown\) could not be found; check AWS_PROFILE"),
        ({"AWS_DEFAULT_REGION": "no region!"}, "'no region!' .*; check AWS_DEFAULT_REGION"),
        ({"AWS_CA_BUNDLE": "/nowhere/ca.pem", "AWS_ENDPOINT_URL": "https://127.0.0.1:9"}, "check .*AWS_CA_BUNDLE"),
        (
            {
                "AWS_ACCESS_KEY_ID": "",
                "AWS_SECRET_ACCESS_KEY": "",
                "AWS_SHARED_CREDENTIALS_FILE": "/nowhere",
                "AWS_EC2_METADATA_DISABLED": "true",
            },
            "Unable to locate credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
        ),
    ],
)
def test_a_wrong_configuration_is_an_error_with_a_remedy(
    environment: dict[str, str], message: str, s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    uses: list[Callable[[BucketStore], object]] = [
        lambda store: store.get("a"),
        lambda store: put(store, "a"),
        lambda store: list(store.list()),
    ]
    for use in uses:
        with pytest.raises(StorageError, match=message) as raised:
            use(BucketStore(s3))
        assert "very-secret" not in str(raised.value)


def test_a_missing_bucket_is_an_error_with_a_remedy(s3: str) -> None:
    with pytest.raises(StorageError, match="s3://no-such-bucket cannot be read: the bucket does not exist"):
        BucketStore("s3://no-such-bucket").get("a")


def test_denied_access_is_an_error_with_the_required_permissions(store: BucketStore, faults: Faults) -> None:
    faults.always["missing"] = "403"
    with pytest.raises(StorageError, match="access denied; the credentials need s3:ListBucket, s3:GetObject"):
        store.get("missing")
