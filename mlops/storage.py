"""Named byte strings in a local folder or an S3 bucket, behind one interface. The only module that talks to S3.

Credentials, region and endpoint come from boto3's own configuration chain.
"""

import os
import re
import shutil
import tempfile
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from botocore import exceptions as boto
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from audiocnn.atomic import atomic_file
from audiocnn.errors import AudioCNNError

SCHEME = "s3://"
THREADS = 16  # concurrent requests per store
DELETE_BATCH = 1000  # S3's limit for one request
READ_ATTEMPTS = 4
# Of a client; times in s.
LIMITS = {"retries": {"mode": "standard", "max_attempts": 4}, "connect_timeout": 10, "read_timeout": 60}
CHECK = {"retries": {"mode": "standard", "max_attempts": 1}, "connect_timeout": 2, "read_timeout": 3}
PROBE = b"written by `audiocnn doctor`\n"
_DAMAGE = (boto.FlexibleChecksumError, boto.ReadTimeoutError, boto.ResponseStreamingError, boto.IncompleteReadError)


class StorageError(AudioCNNError):
    """An invalid address, or a store that cannot be reached, read or written."""


class DamagedObjectError(StorageError):
    """An object whose content, after several attempts, is still incomplete or does not match its checksum."""


@dataclass(frozen=True)
class Entry:
    """One file or object: its name, size in bytes, and modification time in seconds since 1970."""

    name: str
    size: int
    modified: float


def open_store(root: str) -> "Store":
    """Open the store at a folder's path or at s3://bucket/prefix. A missing folder is created by the first `put`.

    Raises:
        StorageError: `root` is neither, or S3 is not configured correctly.
    """
    if root.startswith(SCHEME):
        return BucketStore(root)
    if not root.strip() or re.match(r"[A-Za-z][\w+.-]+:/", root):
        raise StorageError(f"{root!r} is not a valid address; expected a folder or s3://bucket/prefix")
    return FolderStore(Path(root))


def check_access(root: str) -> None:
    """Write, read and delete a small entry. S3 is asked once, so that an unreachable one is reported within seconds.

    A folder that does not exist is not created; the folder in which it would be is checked.

    Raises:
        StorageError: the address is invalid, or S3 cannot be reached, written or read.
        OSError: the folder cannot be written.
    """
    store = open_store(root)
    if isinstance(store, BucketStore):
        store.check_access()
        return
    folder = next(path for path in (store.root.absolute(), *store.root.absolute().parents) if path.exists())
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(PROBE)


class FolderStore:
    """A store in a local folder. Names are relative paths with slashes; writes are atomic.

    All methods raise StorageError if the store cannot be read, and OSError if it cannot be written.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.address = str(root)

    def get(self, name: str) -> bytes | None:
        """Return the content of an entry, or None if there is no such entry."""
        try:
            # Path.read_bytes takes three times as long, and a run with a full cache does little else.
            with open(f"{self.address}/{name}", "rb", buffering=0) as file:  # noqa: PTH123
                return file.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageError(
                f"{self.root / name} cannot be read: {error.strerror}; check the path and its permissions"
            ) from error

    def get_many(self, names: Iterable[str]) -> Iterator[bytes | None]:
        """Yield the content of each entry in order; None for one that is missing."""
        return map(self.get, names)

    def put(self, name: str, content: bytes) -> None:
        with atomic_file(self.root / name) as part:
            part.write_bytes(content)

    def flush(self) -> None:
        """Do nothing: `put` writes at once."""

    def list(self, folder: str = "") -> Iterator[Entry]:
        """Yield all entries below `folder`, at any depth; all of the store by default."""

        def raise_unless_missing(error: OSError) -> None:  # os.walk ignores errors by default
            missing = (FileNotFoundError, NotADirectoryError) if folder else FileNotFoundError
            if not isinstance(error, missing):
                raise StorageError(f"{error.filename} cannot be listed: {error.strerror}; check the path") from error

        for parent, _, names in os.walk(self.root / folder, onerror=raise_unless_missing):
            for path in (Path(parent, name) for name in names):
                with suppress(FileNotFoundError):  # deleted meanwhile
                    stat = path.stat()
                    yield Entry(path.relative_to(self.root).as_posix(), stat.st_size, stat.st_mtime)

    def delete(self, names: Iterable[str]) -> None:
        """Delete entries; missing ones are ignored."""
        for name in names:
            (self.root / name).unlink(missing_ok=True)


class BucketStore:
    """A store below s3://bucket/prefix, with the methods of FolderStore. Thread-safe.

    Writes run in background threads; `flush` waits for them. All methods raise StorageError.
    """

    def __init__(self, address: str) -> None:
        match = re.fullmatch(r"s3://([a-z0-9][a-z0-9._-]{1,61}[a-z0-9])(?:/(.*))?", address)
        if match is None:
            raise StorageError(f"{address!r} is not the address of a bucket; expected s3://bucket/prefix")
        self.bucket, prefix = match[1], (match[2] or "").strip("/")
        self.prefix = f"{prefix}/" if prefix else ""
        self.address = f"{SCHEME}{self.bucket}/{self.prefix}".rstrip("/")
        with self._errors("opened"):
            self._client = _new_client(LIMITS)
        self._pool = ThreadPoolExecutor(THREADS)
        self._puts: deque[Future[Any]] = deque()

    def get(self, name: str) -> bytes | None:
        content: bytes | None = self._read(name, lambda body: body.read())
        return content

    def get_many(self, names: Iterable[str]) -> Iterator[bytes | None]:
        remaining = iter(names)
        while window := list(islice(remaining, 4 * THREADS)):  # bounds the memory
            yield from self._pool.map(self._get_undamaged, window)

    def _get_undamaged(self, name: str) -> bytes | None:
        with suppress(DamagedObjectError):
            return self.get(name)
        return None

    def download(self, name: str, path: Path) -> None:
        """Write an object to a local file. After an error there is no file."""

        def copy(body: Any) -> bool:
            with path.open("wb") as file:
                shutil.copyfileobj(body, file)
            return True

        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            if not self._read(name, copy):
                raise StorageError(f"{self.address}/{name} does not exist")
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    def put(self, name: str, content: bytes) -> None:
        if len(self._puts) >= 4 * THREADS:  # bounds the memory
            self._puts.popleft().result()
        self._puts.append(self._pool.submit(self._put, name, content))

    def _put(self, name: str, content: bytes) -> None:
        with self._errors("written"):
            self._client.put_object(Bucket=self.bucket, Key=self.prefix + name, Body=content)

    def flush(self) -> None:
        while self._puts:
            self._puts.popleft().result()

    def list(self, folder: str = "") -> Iterator[Entry]:
        prefix = self.prefix + (f"{folder.rstrip('/')}/" if folder else "")
        with self._errors("listed"):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
            for found in (found for page in pages for found in page.get("Contents", [])):
                name = found["Key"].removeprefix(self.prefix)
                yield Entry(name, found["Size"], found["LastModified"].timestamp())

    def delete(self, names: Iterable[str]) -> None:
        remaining = iter(names)
        with self._errors("deleted"):
            while batch := [{"Key": self.prefix + name} for name in islice(remaining, DELETE_BATCH)]:
                answer = self._client.delete_objects(Bucket=self.bucket, Delete={"Objects": batch, "Quiet": True})
                for failed in answer.get("Errors", []):
                    raise StorageError(f"{self.address}: {failed['Key']} cannot be deleted: {failed.get('Code')}")

    def check_access(self) -> None:
        """Write, read and delete a small object, with short time limits."""
        client, where = _new_client(CHECK), {"Bucket": self.bucket, "Key": f"{self.prefix}.check-{uuid.uuid4().hex}"}
        with self._errors("used"):
            client.put_object(**where, Body=PROBE)
            content = client.get_object(**where)["Body"].read()
            client.delete_object(**where)
        if content != PROBE:
            raise StorageError(f"{self.address} does not give back what was written")

    @retry(
        retry=retry_if_exception_type(DamagedObjectError),
        stop=stop_after_attempt(READ_ATTEMPTS),
        wait=wait_exponential_jitter(multiplier=0.2, max=5, jitter=0.2),
        reraise=True,
    )
    def _read(self, name: str, consume: Callable[[Any], Any]) -> Any:
        """Return what `consume` returns for the object's body; None if there is no such object.

        botocore repeats failed requests, but does not notice a damaged body before it is consumed.
        """
        with self._errors("read"):
            try:
                answer = self._client.get_object(Bucket=self.bucket, Key=self.prefix + name)
            except self._client.exceptions.NoSuchKey:
                return None
            with closing(answer["Body"]) as body:
                try:
                    return consume(body)
                except _DAMAGE as error:
                    raise DamagedObjectError(
                        f"{self.address}/{name} is incomplete or damaged: {error}; try again, or upload it again"
                    ) from error

    @contextmanager
    def _errors(self, action: str) -> Iterator[None]:
        """Convert botocore's exceptions to StorageError. ValueError: an invalid endpoint."""
        try:
            yield
        except (boto.ClientError, boto.BotoCoreError, ValueError) as error:
            raise StorageError(f"{self.address} cannot be {action}: {_explain(error)}") from error


Store = FolderStore | BucketStore


def _new_client(limits: Mapping[str, Any]) -> Any:
    import boto3  # 0.3 s, for S3 only
    from botocore.config import Config

    config = Config(**limits, max_pool_connections=2 * THREADS)
    return boto3.session.Session().client("s3", config=config)  # boto3's default session is not thread-safe


_DENIED = "access denied; the credentials need s3:ListBucket, s3:GetObject and s3:PutObject"
_BY_CODE = {
    "NoSuchBucket": "the bucket does not exist; check its name",
    "InvalidAccessKeyId": "the access key is unknown; check AWS_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "the secret key does not match the access key; check AWS_SECRET_ACCESS_KEY",
    "ExpiredToken": "the credentials have expired; renew them",
    "AccessDenied": _DENIED,
    "403": _DENIED,
}
_CREDENTIALS = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
_CONNECTION = "check AWS_ENDPOINT_URL, AWS_DEFAULT_REGION, AWS_CA_BUNDLE and the network"
_REMEDIES = (
    ((boto.NoCredentialsError, boto.PartialCredentialsError), _CREDENTIALS),
    (boto.ProfileNotFound, "check AWS_PROFILE"),
    (boto.InvalidRegionError, "check AWS_DEFAULT_REGION"),
    ((boto.ConnectionError, boto.HTTPClientError), _CONNECTION),
    ((boto.EndpointProviderError, ValueError), "check AWS_ENDPOINT_URL; an example is http://127.0.0.1:9000"),
)


def _explain(error: Exception) -> str:
    """Return the cause and the remedy. botocore's messages contain no secrets."""
    if isinstance(error, boto.ClientError):
        code, status = error.response["Error"].get("Code", ""), error.response["ResponseMetadata"].get("HTTPStatusCode")
        return _BY_CODE.get(code, f"the server answered {status} {code}; check the endpoint and the permissions")
    remedy = next((remedy for kind, remedy in _REMEDIES if isinstance(error, kind)), "")
    return f"{error}; {remedy}" if remedy else str(error)
