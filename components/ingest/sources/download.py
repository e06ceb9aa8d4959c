"""Files over HTTP: resumed where a connection broke, tried again with back-off, kept for the next run."""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import requests
from filelock import FileLock
from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_exponential_jitter

from audiocnn.atomic import atomic_file
from components.ingest.sources.kind import SourceError

CHUNK = 2**20
TIMEOUT = (10, 60)  # seconds to connect, and between two pieces
STALLS = 6  # attempts in a row that brought nothing new before it is given up
LONGEST_WAIT = 60.0  # seconds between two attempts, whatever the server asks for
BUSY = (408, 425, 429, 500, 502, 503, 504)  # statuses that may be gone a moment later
NEWS = 25 * 2**20  # bytes between two lines of progress


class _Again(Exception):
    """An attempt that is worth another; `wait` is what the server asks for, in seconds."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


def download(url: str, folder: Path, limit: int, pause: float = 1.0) -> Path:
    """The file at `url`, as a file in `folder`, where it stays for the next run.

    A beginning that an earlier run has left is gone on with (RFC 9110, Range and If-Range), if the server still has
    the same file; a whole file is taken as it is, if the server says that it has not changed, or does not answer.

    Args:
        limit: bytes; beyond it the file is refused.
        pause: seconds before the second attempt; each further one waits twice as long.
    Raises:
        SourceError: the server refuses, sends more than `limit`, or nothing new in several attempts.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = hashlib.sha256(url.encode()).hexdigest()[:16]
    # Another run that wants the same file waits here, and then finds it.
    with FileLock(folder / f"{name}.lock"):
        return _Download(url, folder / f"{name}.part", folder / name, limit).run(pause)


def forget(url: str, folder: Path) -> None:
    """Remove what `download` has kept, for it turned out to be wrong."""
    name = hashlib.sha256(url.encode()).hexdigest()[:16]
    with FileLock(folder / f"{name}.lock"):
        for kept in (folder / name, folder / f"{name}.part", folder / f"{name}.json"):
            kept.unlink(missing_ok=True)


def shown(url: str) -> str:
    """An address without the user, password and query that it may carry: they belong in no message."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


@dataclass
class _Download:
    url: str
    part: Path
    whole: Path
    limit: int
    stalls: int = 0
    furthest: int = 0

    def run(self, pause: float) -> Path:
        before = wait_exponential_jitter(multiplier=pause, max=LONGEST_WAIT, jitter=pause)

        def wait(state: RetryCallState) -> float:
            asked = getattr(state.outcome.exception() if state.outcome else None, "wait", 0.0)
            return max(before(state), min(asked, LONGEST_WAIT))

        retrying = Retrying(
            retry=retry_if_exception_type((_Again, requests.ConnectionError, requests.Timeout, *_CUT)),
            stop=lambda _: self.stalls >= STALLS,
            wait=wait,
            before_sleep=_tell,
            reraise=True,
        )
        try:
            retrying(self._attempt)
        except (_Again, requests.RequestException) as error:
            if self.whole.is_file():
                print(f"[ingest] {shown(self.url)} does not answer; taking the copy from the last download", flush=True)
                return self.whole
            raise SourceError(
                f"{shown(self.url)} cannot be downloaded: {_words(error)}; run again to go on where it stopped"
            ) from error
        return self.whole

    def _attempt(self) -> None:
        """One request. What it brought stays in the file, whatever happens then."""
        self.stalls += 1
        headers, have = {"Accept-Encoding": "identity"}, 0
        validator = self._validator()
        if self.whole.is_file() and validator:
            headers["If-None-Match" if validator.startswith(('"', "W/")) else "If-Modified-Since"] = validator
        elif self.part.is_file() and validator and not validator.startswith("W/"):
            have = self.part.stat().st_size
            headers |= {"Range": f"bytes={have}-", "If-Range": validator}
        with requests.get(self.url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
            if answer.status_code == 304 and self.whole.is_file():
                return
            if answer.status_code == 416:  # the file has become shorter than its beginning here
                self.part.unlink(missing_ok=True)
                raise _Again("it has changed meanwhile")
            if answer.status_code in BUSY:
                raise _Again(f"the server answers {answer.status_code}", _seconds(answer.headers.get("Retry-After")))
            if answer.status_code not in (200, 206):
                raise SourceError(f"{shown(self.url)}: the server answers {answer.status_code} {answer.reason}")
            start = _start(answer)
            if start != have:
                if answer.status_code == 206:
                    self.part.unlink(missing_ok=True)
                    raise _Again("the server sends another part than was asked for")
                have = 0
            self.whole.unlink(missing_ok=True)  # the server has another: the note below is no longer about this one
            self._keep(answer.headers.get("ETag") or answer.headers.get("Last-Modified") or "")
            self._write(answer, have)
        self.part.replace(self.whole)

    def _write(self, answer: requests.Response, have: int) -> None:
        length = answer.headers.get("Content-Length", "")
        total = have + int(length) if length.isdecimal() else None
        if total is not None and total > self.limit:
            raise self._too_large()
        told = have
        with self.part.open("r+b" if have else "wb") as file:
            file.seek(have)
            for chunk in answer.iter_content(CHUNK):
                have += len(chunk)
                if have > self.limit:
                    raise self._too_large()
                file.write(chunk)
                if have > self.furthest:  # a server that always starts again and always breaks gets nowhere
                    self.furthest, self.stalls = have, 0
                if have - told >= NEWS or have == total:
                    told = have
                    of = f"/{total / 1e6:.0f}" if total else ""
                    print(f"[ingest] downloaded {have / 1e6:.0f}{of} MB", flush=True)
        if total is not None and have < total:
            raise _Again(f"the connection ended after {have} of {total} bytes")

    def _too_large(self) -> SourceError:
        self.part.unlink(missing_ok=True)
        return SourceError(f"{shown(self.url)} is larger than ingest.max_source_bytes allows ({self.limit})")

    def _validator(self) -> str:
        """What the server called the content that lies here; "" where it did not say: then nothing is gone on with."""
        try:
            return str(json.loads(self._notes.read_text(encoding="utf-8"))["validator"])
        except (OSError, ValueError, KeyError, TypeError):
            return ""

    def _keep(self, validator: str) -> None:
        with atomic_file(self._notes) as notes:
            notes.write_text(json.dumps({"validator": validator}), encoding="utf-8")

    @property
    def _notes(self) -> Path:
        return self.whole.with_suffix(".json")


_CUT = (requests.exceptions.ChunkedEncodingError, requests.exceptions.ContentDecodingError)


def _start(answer: requests.Response) -> int:
    """Where the content of an answer begins; -1 for a part that does not say."""
    if answer.status_code == 200:
        return 0
    match = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
    return int(match[1]) if match else -1


def _seconds(retry_after: str | None) -> float:
    """Of a Retry-After in seconds; one that names a date is left to the back-off."""
    return float(retry_after) if retry_after and retry_after.isdecimal() else 0.0


def _tell(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    print(f"[ingest] download broken ({_words(error)}); trying again", flush=True)


def _words(error: BaseException | None) -> str:
    """Without addresses and Python's objects: requests' messages hold both."""
    names: dict[type[Any], str] = {
        requests.exceptions.SSLError: "its certificate is not trusted here",
        requests.Timeout: "it takes too long to answer",
        requests.exceptions.ChunkedEncodingError: "the connection broke",
        requests.ConnectionError: "it cannot be reached, or the connection broke",
        requests.TooManyRedirects: "it redirects without end",
        requests.RequestException: "the address or the answer is not understood",
    }
    return next((words for kind, words in names.items() if isinstance(error, kind)), str(error))
