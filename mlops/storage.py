"""The one place that talks to S3: any endpoint, credentials from boto3's own chain, errors as sentences."""

import os
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any, Self, TypeVar

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from audiocnn.atomic import atomic_file
from audiocnn.errors import AudioCNNError
from mlops import etags

SCHEME = "s3://"
THREADS = 16  # requests under way at once
CHUNK = 2**20
LISTED = 1000  # objects that one request deletes: S3's limit
_MAKING = Lock()
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
REGIONS = ("AWS_DEFAULT_REGION", "AWS_REGION")
BUNDLE = "AWS_CA_BUNDLE"
ATTEMPTS = 4  # at reading an object whole: botocore repeats requests, but not a body that breaks off
KMS = ("aws:kms", "aws:kms:dsse")
Taken = TypeVar("Taken")


class StorageError(AudioCNNError):
    """An address that is none, or a bucket that cannot be reached, read or written."""


class BrokenOff(StorageError):
    """The connection ended in the middle of an object, time and again."""


class Damaged(StorageError):
    """An object's bytes do not fit what the server says of them, time and again."""


@dataclass(frozen=True)
class Object:
    """One object: its key below the bucket's prefix, its bytes, S3's ETag, and when it was written."""

    key: str
    size: int
    etag: str
    modified: datetime


@dataclass(frozen=True)
class Bucket:
    """What lies below `prefix` in a bucket; keys are relative to it. Puts are atomic: S3 shows an object whole or not.

    All methods raise StorageError for what a person can mend, and may be called from several threads.
    """

    name: str
    prefix: str

    @classmethod
    def of(cls, url: str) -> Self:
        """From s3://bucket/prefix.

        Raises:
            StorageError: it has another form.
        """
        match = re.fullmatch(r"s3://([a-z0-9][a-z0-9._-]{1,61}[a-z0-9])(?:/(.*))?", url)
        if match is None:
            raise StorageError(f"{url!r} is no address of a bucket; expected s3://bucket/prefix")
        prefix = (match[2] or "").strip("/")
        return cls(match[1], f"{prefix}/" if prefix else "")

    @property
    def url(self) -> str:
        return f"{SCHEME}{self.name}/{self.prefix}".rstrip("/")

    def get(self, key: str) -> bytes | None:
        """An object's content; None where there is none.

        Raises:
            BrokenOff, Damaged, StorageError
        """
        from botocore.exceptions import ClientError

        with self._errors("read"):
            try:
                content: bytes = self._take(key, lambda answer: answer["Body"].read())
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") != "NoSuchKey":
                    raise
                return None
            return content

    def get_many(self, keys: Iterable[str]) -> Iterator[bytes | None]:
        """`get` of each, in order, several at once; no more than a window of them in memory. None for a damaged one."""
        waiting = iter(keys)
        with ThreadPoolExecutor(THREADS) as pool:
            while window := list(islice(waiting, 4 * THREADS)):
                yield from pool.map(self._get_sound, window)

    def _get_sound(self, key: str) -> bytes | None:
        try:
            return self.get(key)
        except Damaged:
            return None

    def put(self, key: str, content: bytes) -> None:
        """Write an object, in place of what was there."""
        with self._errors("written"):
            self._client.put_object(Bucket=self.name, Key=self.prefix + key, Body=content)

    def list(self, below: str = "", after: str = "") -> Iterator[Object]:
        """Every object whose key starts with `below` and comes after `after`, sorted by key."""
        with self._errors("listed"):
            pages = self._client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self.name, Prefix=self.prefix + below, StartAfter=self.prefix + after):
                for found in page.get("Contents", []):
                    key = found["Key"].removeprefix(self.prefix)
                    yield Object(key, found["Size"], found["ETag"].strip('"'), found["LastModified"])

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects; those that are gone already count as removed."""
        with self._errors("cleaned up"):
            waiting = iter(keys)
            while some := list(islice(waiting, LISTED)):
                objects = [{"Key": self.prefix + key} for key in some]
                answer = self._client.delete_objects(Bucket=self.name, Delete={"Objects": objects, "Quiet": True})
                if failed := answer.get("Errors"):
                    raise StorageError(f"{self.url}/{some[0]} and others cannot be removed: {failed[0].get('Code')}")

    def download(self, found: Object, path: Path) -> None:
        """Write an object to a file, which appears whole or not at all, and hold it against size and ETag.

        A single-part upload's ETag is its MD5; that of a multipart upload is recomputed from the sizes of its parts.
        Where the server does not tell them, where a key of KMS or of the customer encrypts the object, or where the
        ETag has another form, the size alone is checked.

        Raises:
            BrokenOff, Damaged, StorageError: also where what arrived is not what was listed.
        """

        def take(answer: Any) -> None:
            with part.open("wb") as file:
                for chunk in answer["Body"].iter_chunks(CHUNK):
                    file.write(chunk)
            if (size := part.stat().st_size) != found.size:
                raise StorageError(f"{self.url}/{found.key}: {size} of {found.size} bytes arrived; try again")
            secret = answer.get("ServerSideEncryption") in KMS or "SSECustomerAlgorithm" in answer
            if not secret and not self._fits(part, found):
                raise Damaged(f"{self.url}/{found.key}: its content does not fit its ETag; upload it again")

        with self._errors("read"), atomic_file(path) as part:
            self._take(found.key, take)

    def _take(self, key: str, take: Callable[[Any], Taken]) -> Taken:
        """What `take` makes of get_object's answer, asked for again where the body breaks off or does not fit."""
        from botocore.exceptions import FlexibleChecksumError, HTTPClientError, IncompleteReadError
        from urllib3.exceptions import HTTPError

        def attempt() -> Taken:
            answer = self._client.get_object(Bucket=self.name, Key=self.prefix + key)
            try:
                return take(answer)
            except FlexibleChecksumError as error:
                hint = "remove it or upload it again"
                raise Damaged(f"{self.url}/{key}: its content does not fit its checksum; {hint}") from error
            except (HTTPClientError, IncompleteReadError, HTTPError) as error:
                # The message names no endpoint: there is nothing wrong with its address.
                raise BrokenOff(f"{self.url}/{key}: the connection broke off {ATTEMPTS} times; try again") from error
            finally:
                answer["Body"].close()  # a connection with half a body in it is not used again

        again = Retrying(
            retry=retry_if_exception_type((BrokenOff, Damaged)),
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_exponential_jitter(multiplier=0.2, max=5, jitter=0.2),
            reraise=True,
        )
        return again(attempt)

    def _fits(self, file: Path, found: Object) -> bool:
        if etags.is_md5(found.etag):
            return etags.md5(file) == found.etag
        count = etags.parts(found.etag)
        if not count or not found.size:
            return True
        first = self._part_size(found, 1)
        last = found.size - first * (count - 1)
        if 0 < last <= first and etags.multipart(file, [first] * (count - 1) + [last]) == found.etag:
            return True
        # Parts of several sizes, or other content: rare, so that a request for each part may be spent.
        sizes = [first, *(self._part_size(found, number) for number in range(2, count + 1))]
        return sum(sizes) != found.size or etags.multipart(file, sizes) == found.etag

    def _part_size(self, found: Object, number: int) -> int:
        """Bytes of a part; of the whole object, where the server knows no parts."""
        head = self._client.head_object(Bucket=self.name, Key=self.prefix + found.key, PartNumber=number)
        return int(head["ContentLength"])

    @property
    def _client(self) -> Any:
        from botocore.exceptions import BotoCoreError

        with _MAKING:  # boto3's session is not made for threads; what it makes is
            try:
                return _client(*(os.environ.get(name) for name in (*ENDPOINTS, *REGIONS, "AWS_PROFILE", BUNDLE)))
            except ValueError as error:
                if isinstance(error, BotoCoreError):
                    raise
                raise StorageError(f"{self.url}: {_no_address()}") from error

    @contextmanager
    def _errors(self, done: str) -> Iterator[None]:
        """boto3's exceptions as one sentence each."""
        from botocore import exceptions as boto

        try:
            yield
        except boto.ClientError as error:
            raise StorageError(f"{self.url} cannot be {done}: {_reason(error.response, done)}") from error
        except boto.BotoCoreError as error:
            raise StorageError(f"{self.url} cannot be {done}: {_sentence(error)}") from error


REASONS = {
    "NoSuchBucket": "there is no such bucket",
    "404": "there is no such bucket or object",
    "InvalidAccessKeyId": "the access key is unknown there",
    "SignatureDoesNotMatch": "the secret key does not fit the access key",
    "ExpiredToken": "the credentials have expired",
    "AccessDenied": "these credentials have no access",
    "403": "these credentials have no access",
}


def _reason(response: Any, done: str) -> str:
    code = str(response.get("Error", {}).get("Code", ""))
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", "")
    reason = REASONS.get(code) or f"the server answers {status} {code}".strip()
    if done == "read" and code in ("AccessDenied", "403"):
        reason += "; they need s3:GetObject, and s3:ListBucket too, or S3 answers like this where there is no object"
    return reason


def _sentence(error: Exception) -> str:
    """What a person can mend of what botocore says; no more than its message, which holds no secret."""
    from botocore import exceptions as boto

    match error:
        case boto.NoCredentialsError() | boto.PartialCredentialsError():
            return "there are no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile"
        case boto.ProfileNotFound():
            return f"there is no profile {error.kwargs['profile']!r} in AWS's configuration; mend AWS_PROFILE"
        case boto.InvalidRegionError():
            return f"{_region()!r} is no region; mend {_named(REGIONS)}"
        case boto.EndpointResolutionError():
            return _no_address()
        case boto.HTTPClientError() | boto.ConnectionError() if _missing_bundle():
            return f"there is no file {os.environ[BUNDLE]}; mend {BUNDLE}"
        case boto.HTTPClientError() | boto.ConnectionError():
            endpoint = _named(ENDPOINTS)
            return f"{error}; " + (
                f"is {endpoint} right and up?" if endpoint else f"are the network and the region {_region()} right?"
            )
    return str(error)


def _no_address() -> str:
    endpoint = _named(ENDPOINTS) or "the endpoint_url of AWS's configuration"
    return f"{endpoint} is no address of a server; write it like http://127.0.0.1:9000"


def _missing_bundle() -> bool:
    return bool(os.environ.get(BUNDLE)) and not Path(os.environ[BUNDLE]).exists()


def _named(names: Iterable[str]) -> str:
    """Which of these variables is set first."""
    return next((name for name in names if os.environ.get(name)), "")


def _region() -> str:
    return os.environ.get(_named(REGIONS), "us-east-1")


@cache
def _client(*_: str | None) -> Any:
    """One client an environment: it holds the open connections."""
    import boto3
    from botocore.config import Config

    # Servers beside AWS commonly have no name for each bucket.
    style = {"addressing_style": "path" if _named(ENDPOINTS) else "auto"}
    return boto3.session.Session().client(
        "s3",
        region_name=_region(),
        config=Config(
            retries={"mode": "standard", "max_attempts": 4},
            connect_timeout=10,
            read_timeout=60,
            max_pool_connections=2 * THREADS,
            s3=style,
        ),
    )
