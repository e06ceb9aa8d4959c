"""Download a file over HTTP with retries. A broken transfer is resumed if the server supports range requests."""

from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import requests
from requests import exceptions
from tenacity import RetryCallState, Retrying, retry_if_exception_type, retry_if_not_exception_type, stop_after_attempt
from tenacity import wait_exponential_jitter as exponential_wait

from components.ingest.sources.base import SourceError

CHUNK_BYTES = 2**16
TIMEOUT = (10, 60)  # seconds to connect, and between two reads
ATTEMPTS = 6
MAX_WAIT = 60.0  # seconds between two attempts
RETRIED_STATUSES = (408, 425, 429, 500, 502, 503, 504)
PROGRESS_BYTES = 25_000_000  # between two lines of progress
# The messages of requests contain URLs, which may contain secrets. The first matching class is used.
REASONS: dict[type[Exception], str] = {
    exceptions.SSLError: "the TLS connection failed, or the certificate is not trusted",
    exceptions.Timeout: "the server does not respond in time",
    exceptions.ChunkedEncodingError: "the connection was interrupted",
    exceptions.ConnectionError: "the server cannot be reached, or the connection was interrupted",
    exceptions.TooManyRedirects: "there are too many redirects",
    ValueError: "the URL, or the URL of a redirect, is invalid",
    exceptions.RequestException: "the response of the server is invalid",
}


class _RetryableError(Exception):
    """A response after which a new request can succeed."""


def download(url: str, file: Path, max_bytes: int, wait: float = 1.0) -> None:
    """Download `url` to `file`. If `file` exists already, it is completed if possible, else replaced.

    Args:
        max_bytes: maximum size of the file.
        wait: seconds before the second attempt; doubled with each further attempt.
    Raises:
        SourceError: the URL is invalid, the server refuses the request, the file is larger than `max_bytes`, or
            ATTEMPTS attempts failed.
    """
    transient = (_RetryableError, exceptions.ConnectionError, exceptions.Timeout, exceptions.ChunkedEncodingError)
    retrying = Retrying(
        retry=retry_if_exception_type(transient) & retry_if_not_exception_type(exceptions.SSLError),
        stop=stop_after_attempt(ATTEMPTS),
        wait=exponential_wait(multiplier=wait, max=MAX_WAIT, jitter=wait),
        before_sleep=_report_retry,
        reraise=True,
    )
    try:
        retrying(_Transfer(url, file, max_bytes).run)
    except (_RetryableError, ValueError, requests.RequestException) as error:
        raise SourceError(f"{redact(url)} cannot be downloaded: {_reason(error)}") from error


def redact(url: str) -> str:
    """Return a URL without user, password, query and fragment, which may contain secrets."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "the URL"
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


class _Transfer:
    def __init__(self, url: str, file: Path, max_bytes: int) -> None:
        self.url, self.file, self.max_bytes = url, file, max_bytes
        self.validator = ""  # ETag or date of the version of which `file` is the beginning

    def run(self) -> None:
        """Request the part that is missing and append it."""
        size = self.file.stat().st_size if self.file.exists() else 0
        headers = {"Accept-Encoding": "identity"}
        if size:
            headers |= {"Range": f"bytes={size}-"} | ({"If-Range": self.validator} if self.validator else {})
        with requests.get(self.url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            if response.status_code in RETRIED_STATUSES:
                raise _RetryableError(f"the server responds with status {response.status_code}")
            is_rest = response.headers.get("Content-Range", "").startswith(f"bytes {size}-")
            if response.status_code == 416 or (response.status_code == 206 and not is_rest):
                self.file.unlink()
                raise _RetryableError("the server does not send the missing part of the file")
            if response.status_code not in (200, 206):
                raise SourceError(
                    f"{redact(self.url)}: the server responds with status {response.status_code}; check the URL"
                )
            if response.status_code == 200:
                size, self.validator = 0, _validator(response)
            try:
                self._write(response, size)
            except requests.RequestException:
                if not self.validator:  # a changed file could not be detected
                    self.file.unlink()
                raise

    def _write(self, response: requests.Response, size: int) -> None:
        expected = size + int(response.headers.get("Content-Length", 0))
        with self.file.open("ab" if size else "wb") as file:
            # requests verifies Content-Length, and raises ChunkedEncodingError if the body is incomplete.
            for chunk in response.iter_content(CHUNK_BYTES):
                size += len(chunk)
                if max(size, expected) > self.max_bytes:
                    self.file.unlink()
                    raise SourceError(
                        f"{redact(self.url)} is larger than {self.max_bytes} bytes (ingest.max_source_bytes)"
                    )
                file.write(chunk)
                if size // PROGRESS_BYTES > (size - len(chunk)) // PROGRESS_BYTES:
                    print(f"[ingest] downloaded {size / 1e6:.0f} MB", flush=True)
        print(f"[ingest] downloaded {size / 1e6:.1f} MB, complete", flush=True)


def _validator(response: requests.Response) -> str:
    """Return a strong ETag, else the date of the last change; empty if the response cannot be resumed."""
    if response.headers.get("Content-Encoding", "identity") != "identity":
        return ""
    etag = response.headers.get("ETag", "")
    return etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified", "")


def _report_retry(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    print(f"[ingest] download interrupted ({_reason(error)}); retrying", flush=True)


def _reason(error: BaseException | None) -> str:
    return next((reason for kind, reason in REASONS.items() if isinstance(error, kind)), str(error))
