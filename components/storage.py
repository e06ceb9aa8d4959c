"""The one place that talks to S3: any endpoint, credentials from boto3's own chain, errors as sentences."""

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any, Self

from audiocnn.atomic import atomic_file
from audiocnn.errors import AudioCNNError

SCHEME = "s3://"
THREADS = 16  # requests under way at once
CHUNK = 2**20
LISTED = 1000  # objects that one request deletes: S3's limit
_MAKING = Lock()
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")


class StorageError(AudioCNNError):
    """An address that is none, or a bucket that cannot be reached, read or written."""


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
        match = re.fullmatch(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(.*))?", url)
        if match is None:
            raise StorageError(f"{url!r} is no address of a bucket; expected s3://bucket/prefix")
        prefix = (match[2] or "").strip("/")
        return cls(match[1], f"{prefix}/" if prefix else "")

    @property
    def url(self) -> str:
        return f"{SCHEME}{self.name}/{self.prefix}".rstrip("/")

    def get(self, key: str) -> bytes | None:
        """An object's content; None where there is none."""
        from botocore.exceptions import ClientError

        with self._errors("read"):
            try:
                body: bytes = self._client.get_object(Bucket=self.name, Key=self.prefix + key)["Body"].read()
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") != "NoSuchKey":
                    raise
                return None
            return body

    def get_many(self, keys: Iterable[str]) -> Iterator[bytes | None]:
        """`get` of each, in order, several at once; no more than a window of them in memory."""
        waiting = iter(keys)
        with ThreadPoolExecutor(THREADS) as pool:
            while window := list(islice(waiting, 4 * THREADS)):
                yield from pool.map(self.get, window)

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

        A single-part upload's ETag is its MD5; that of a multipart upload is recomputed from the size of its first
        part. Where the server does not tell that size, or the ETag has another form, the size alone is checked.

        Raises:
            StorageError: also where what arrived is not what was listed.
        """
        with self._errors("read"), atomic_file(path) as part:
            answer = self._client.get_object(Bucket=self.name, Key=self.prefix + found.key)
            with part.open("wb") as file:
                for chunk in answer["Body"].iter_chunks(CHUNK):
                    file.write(chunk)
            if (size := part.stat().st_size) != found.size:
                raise StorageError(f"{self.url}/{found.key}: {size} of {found.size} bytes arrived; try again")
            if not self._fits(part, found):
                raise StorageError(f"{self.url}/{found.key}: its content does not fit its ETag; upload it again")

    def _fits(self, file: Path, found: Object) -> bool:
        if re.fullmatch(r"[0-9a-f]{32}", found.etag):
            return _md5(file) == found.etag
        parts = re.fullmatch(r"[0-9a-f]{32}-([0-9]+)", found.etag)
        if parts is None or not found.size:
            return True
        head = self._client.head_object(Bucket=self.name, Key=self.prefix + found.key, PartNumber=1)
        size = head["ContentLength"]
        return -(-found.size // size) != int(parts[1]) or _multipart(file, size) == found.etag

    @property
    def _client(self) -> Any:
        with _MAKING:  # boto3's session is not made for threads; what it makes is
            return _client(*(os.environ.get(name) for name in ENDPOINTS))

    @contextmanager
    def _errors(self, done: str) -> Iterator[None]:
        """boto3's exceptions as one sentence each."""
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

        try:
            yield
        except ClientError as error:
            raise StorageError(f"{self.url} cannot be {done}: {_reason(error.response)}") from error
        except (NoCredentialsError, PartialCredentialsError) as error:
            hint = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile"
            raise StorageError(f"{self.url} cannot be {done}: there are no credentials; {hint}") from error
        except BotoCoreError as error:
            # Endpoint, time-outs, cut connections; the message names the endpoint and holds no secret.
            raise StorageError(f"{self.url} cannot be {done}: {error}; is {_endpoint()} right and up?") from error


REASONS = {
    "NoSuchBucket": "there is no such bucket",
    "404": "there is no such bucket or object",
    "InvalidAccessKeyId": "the access key is unknown there",
    "SignatureDoesNotMatch": "the secret key does not fit the access key",
    "ExpiredToken": "the credentials have expired",
    "AccessDenied": "these credentials have no access",
    "403": "these credentials have no access",
}


def _reason(response: Any) -> str:
    code = str(response.get("Error", {}).get("Code", ""))
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", "")
    return REASONS.get(code) or f"the server answers {status} {code}".strip()


def _endpoint() -> str:
    return next((name for name in ENDPOINTS if os.environ.get(name)), "the network")


@cache
def _client(*endpoints: str | None) -> Any:
    """One client an endpoint: it holds the open connections."""
    import boto3
    from botocore.config import Config

    # Servers beside AWS commonly have no name for each bucket.
    style = {"addressing_style": "path" if any(endpoints) else "auto"}
    return boto3.session.Session().client(
        "s3",
        region_name=os.environ.get("AWS_DEFAULT_REGION") or os.environ.get("AWS_REGION") or "us-east-1",
        config=Config(
            retries={"mode": "standard", "max_attempts": 4},
            connect_timeout=10,
            read_timeout=60,
            max_pool_connections=2 * THREADS,
            s3=style,
        ),
    )


def _md5(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _multipart(file: Path, size: int) -> str:
    """The ETag of an upload in parts of `size` bytes: the MD5 of the parts' MD5s, and how many there are."""
    with file.open("rb") as content:
        parts = [hashlib.md5(part, usedforsecurity=False).digest() for part in iter(lambda: content.read(size), b"")]
    return f"{hashlib.md5(b''.join(parts), usedforsecurity=False).hexdigest()}-{len(parts)}"
