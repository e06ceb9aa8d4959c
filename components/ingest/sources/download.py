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
ATTEMPTS = 5
RETRIED_STATUSES = (408, 425, 429, 500, 502, 503, 504)
PROGRESS_BYTES = 25_000_000  # between two lines of progress
# The messages of requests contain URLs, which may contain secrets. The first matching class is used.
REASONS: dict[type[Exception], str] = {
    exceptions.SSLError: "the TLS connection failed, or the certificate is not trusted",
    exceptions.Timeout: "the server does not respond in time; check the host of the URL",
    exceptions.ChunkedEncodingError: "the connection was interrupted",
    exceptions.ConnectionError: "the server or its proxy cannot be reached; check the host and the port of the URL",
    ValueError: "the URL, or the URL of a redirect, is invalid",
    exceptions.RequestException: "the response of the server is invalid",
}


class _RetryableError(Exception):
    """A response after which a new request can succeed."""


def download(url: str, file: Path, max_bytes: int, wait: float = 1.0) -> None:
    """Download `url` to `file`. If `file` exists already, it is completed if possible, else replaced.

    The file may have changed on the server in between; the checksums in .zip files detect that.

    Args:
        wait: seconds before the second attempt; doubled with each further attempt.
    Raises:
        SourceError: the URL is invalid, the server refuses the request, the file is larger than `max_bytes`, or all
            attempts failed.
    """
    transient = (_RetryableError, exceptions.ConnectionError, exceptions.Timeout, exceptions.ChunkedEncodingError)
    retrying = Retrying(
        retry=retry_if_exception_type(transient) & retry_if_not_exception_type(exceptions.SSLError),
        stop=stop_after_attempt(ATTEMPTS),
        wait=exponential_wait(multiplier=wait, jitter=wait),
        before_sleep=_print_failure,
        reraise=True,
    )
    try:
        retrying(_request_rest, url, file, max_bytes)
    except (_RetryableError, ValueError, requests.RequestException) as error:
        raise SourceError(f"{redact(url)} cannot be downloaded: {_reason(error)}") from error


def redact(url: str) -> str:
    """Return a URL without user, password, query and fragment, which may contain secrets."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "the URL"
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _request_rest(url: str, file: Path, max_bytes: int) -> None:
    """Request the part that is missing and append it."""
    size = file.stat().st_size if file.exists() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={size}-"} if size else {})
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if response.status_code in RETRIED_STATUSES:
            raise _RetryableError(f"the server responds with status {response.status_code}")
        if response.status_code == 416:  # `file` is as long as that of the server, or longer
            file.unlink()
            raise _RetryableError("the server does not send the missing part of the file")
        if response.status_code not in (200, 206):
            raise SourceError(f"{redact(url)}: the server responds with status {response.status_code}; check the URL")
        size = size if response.status_code == 206 else 0
        expected = size + int(response.headers.get("Content-Length", 0))
        with file.open("ab" if size else "wb") as stream:
            # requests verifies Content-Length, and raises ChunkedEncodingError if the body is incomplete.
            for chunk in response.iter_content(CHUNK_BYTES):
                size += len(chunk)
                if max(size, expected) > max_bytes:
                    file.unlink()
                    raise SourceError(f"{redact(url)} is larger than {max_bytes} bytes (ingest.max_source_bytes)")
                stream.write(chunk)
                if size // PROGRESS_BYTES > (size - len(chunk)) // PROGRESS_BYTES:
                    print(f"[ingest] downloaded {size / 1e6:.0f} MB", flush=True)
    print(f"[ingest] downloaded {size / 1e6:.1f} MB, complete", flush=True)


def _print_failure(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    print(f"[ingest] download failed: {_reason(error)}; retrying", flush=True)


def _reason(error: BaseException | None) -> str:
    return next((reason for kind, reason in REASONS.items() if isinstance(error, kind)), str(error))
