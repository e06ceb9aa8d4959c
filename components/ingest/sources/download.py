"""Files over HTTP: resumed where a connection broke, tried again with back-off, kept for the next run."""

import hashlib
import json
import re
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit, urlunsplit

import requests
from filelock import FileLock, Timeout
from tenacity import RetryCallState, Retrying, retry_if_exception, wait_exponential_jitter

from audiocnn.atomic import atomic_file
from components.ingest.sources.kind import SourceError

CHUNK = 2**16  # bytes; a connection that breaks takes the last, unfinished piece with it
TIMEOUT = (10, 60)  # seconds to connect, and between two pieces
STALLS = 6  # attempts in a row that brought nothing new before it is given up
LONGEST_WAIT = 60.0  # seconds between two attempts, whatever the server asks for
BUSY = (408, 425, 429, 500, 502, 503, 504)  # statuses that may be gone a moment later
NEWS = 25_000_000  # bytes between two lines of progress


class _Again(Exception):
    """An attempt that is worth another; `wait` is what the server asks for, in seconds."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


def download(url: str, folder: Path, limit: int, *, fixed: bool = False, pause: float = 1.0) -> Path:
    """The file at `url`, as a file in `folder`, where it stays for the next run.

    A beginning that an earlier run has left is gone on with (RFC 9110, Range and If-Range), if the server still has
    the same file. A whole file that still has the bytes that were downloaded is taken as it is, if the server says
    that its own has not changed, or does not answer.

    Args:
        limit: bytes; beyond it the file is refused.
        fixed: what lies at `url` never changes, so that the server need not be asked about a whole file.
        pause: seconds before the second attempt; each further one waits twice as long.
    Raises:
        SourceError: the server refuses, sends more than `limit`, or nothing new in several attempts.
    """
    name = _name(url)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / f"{name}.lock")
        try:
            held = lock.acquire(timeout=0)
        except Timeout:
            print(f"[ingest] another run downloads {shown(url)}; waiting for it", flush=True)
            held = lock.acquire()
        with held:
            return _Download(url, folder / name, limit).run(fixed, pause)
    except OSError as error:
        raise SourceError(f"{folder} (ingest.downloads) cannot be used: {error.strerror or error}") from error


def forget(url: str, folder: Path) -> None:
    """Remove what `download` has kept, for it turned out to be wrong."""
    name = _name(url)
    with FileLock(folder / f"{name}.lock"):
        for kept in (name, f"{name}.json", f"{name}.part", f"{name}.part.json"):
            (folder / kept).unlink(missing_ok=True)


def shown(url: str) -> str:
    """An address without the user, password and query that it may carry: they belong in no message."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "the address"
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _name(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class _Note:
    """What the server called a file that lies here, whole or in part; the SHA-256, hex, of a whole one."""

    etag: str = ""
    modified: str = ""
    sha256: str = ""

    @classmethod
    def of(cls, answer: requests.Response) -> Self:
        if answer.headers.get("Content-Encoding", "identity") != "identity":
            return cls()  # the names and lengths are those of other bytes than arrive here
        return cls(answer.headers.get("ETag", ""), answer.headers.get("Last-Modified", ""))

    @classmethod
    def read(cls, path: Path) -> Self:
        """As it was written; empty where nothing that can be read lies there."""
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            return cls(**{key: str(found[key]) for key in ("etag", "modified", "sha256")})
        except (OSError, ValueError, KeyError, TypeError):
            return cls()

    def write(self, path: Path) -> None:
        with atomic_file(path) as part:
            part.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @property
    def strong(self) -> str:
        """What proves that bytes are of one and the same file; a weak ETag does not."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.modified

    def contradicts(self, other: Self) -> bool:
        pairs = ((self.etag, other.etag), (self.modified, other.modified))
        return any(mine and its and mine != its for mine, its in pairs)


class _Download:
    def __init__(self, url: str, whole: Path, limit: int) -> None:
        self.url, self.whole, self.limit = url, whole, limit
        self.part = whole.with_name(f"{whole.name}.part")
        self.kept = _Note()  # of the whole file; empty if there is none, or none to rely on
        self.stalls = 0
        self.furthest = 0

    def run(self, fixed: bool, pause: float) -> Path:
        note = _Note.read(_beside(self.whole))
        if self.whole.is_file() and note.sha256 == _sha256(self.whole):
            self.kept = note
        if fixed and self.kept.sha256:
            print(f"[ingest] taking {shown(self.url)} from {self.whole.parent}, downloaded earlier", flush=True)
            return self.whole
        try:
            self._retrying(pause)(self._attempt)
        except (_Again, requests.RequestException) as error:
            again = _worth_another(error)
            if again and self.kept.sha256:
                print(f"[ingest] {shown(self.url)} does not answer; taking the copy from the last download", flush=True)
                return self.whole
            hint = "; run again to go on where it stopped" if again else ""
            raise SourceError(f"{shown(self.url)} cannot be downloaded: {_words(error)}{hint}") from error
        return self.whole

    def _retrying(self, pause: float) -> Retrying:
        grown = wait_exponential_jitter(multiplier=pause, max=LONGEST_WAIT, jitter=pause)

        def wait(state: RetryCallState) -> float:
            asked = getattr(state.outcome.exception() if state.outcome else None, "wait", 0.0)
            return max(grown(state), min(asked, LONGEST_WAIT))

        return Retrying(
            retry=retry_if_exception(_worth_another),
            stop=lambda _: self.stalls >= STALLS,
            wait=wait,
            before_sleep=_tell,
            reraise=True,
        )

    def _attempt(self) -> None:
        """One request. What it brought stays in the file, whatever happens then."""
        self.stalls += 1
        begun = _Note.read(_beside(self.part))
        have = self.part.stat().st_size if self.part.is_file() and begun.strong else 0
        with self._get(self._asked(begun, have)) as answer:
            status, found = answer.status_code, _Note.of(answer)
            if status == 304 and self.kept.sha256:
                return
            if status in BUSY:
                raise _Again(f"the server answers {status}", _seconds(answer.headers.get("Retry-After")))
            if status == 200:
                have = 0
            elif status in (206, 416) and have:
                self._check_same(answer, have, begun.contradicts(found))
                found = begun  # an answer in parts may leave names out
            else:
                raise SourceError(f"{shown(self.url)}: the server answers {status} {answer.reason}")
            if status != 416:  # else nothing is missing
                found.write(_beside(self.part))
                self._write(answer, have)
        # In this order: a run that ends in between leaves a file that the note does not fit, which nobody relies on.
        self.part.replace(self.whole)
        replace(found, sha256=_sha256(self.whole)).write(_beside(self.whole))
        _beside(self.part).unlink()

    def _get(self, headers: dict[str, str]) -> requests.Response:
        try:
            return requests.get(self.url, headers=headers, stream=True, timeout=TIMEOUT)
        except requests.RequestException:
            raise
        except ValueError as error:  # requests lets through what urllib3 and Python say of odd hosts, redirects too
            raise requests.exceptions.InvalidURL(str(error)) from error

    def _asked(self, begun: _Note, have: int) -> dict[str, str]:
        headers = {"Accept-Encoding": "identity"}
        if self.kept.etag:
            headers["If-None-Match"] = self.kept.etag
        elif self.kept.modified:
            headers["If-Modified-Since"] = self.kept.modified
        return headers | ({"Range": f"bytes={have}-", "If-Range": begun.strong} if have else {})

    def _check_same(self, answer: requests.Response, have: int, contradicted: bool) -> None:
        """Whether what a 206 brings follows on what is here, or a 416 says that it is all; else it is thrown away."""
        start, total = _place(answer)
        fits = total == have if answer.status_code == 416 else start == have
        if contradicted or not fits:
            self.part.unlink()
            raise _Again("the server has another file meanwhile, or sends another part than was asked for")

    def _write(self, answer: requests.Response, have: int) -> None:
        total = _length(answer)
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
                if have - told >= NEWS:
                    told = have
                    _report(have, total)
        if total is not None and have != total:
            if have > total:
                self.part.unlink()
            raise _Again(f"the connection ended after {have} of {total} bytes")
        _report(have, total)

    def _too_large(self) -> SourceError:
        self.part.unlink(missing_ok=True)
        return SourceError(f"{shown(self.url)} is larger than ingest.max_source_bytes allows ({self.limit} bytes)")


def _beside(file: Path) -> Path:
    """Where the note about a file lies."""
    return file.with_name(f"{file.name}.json")


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _place(answer: requests.Response) -> tuple[int, int | None]:
    """Where the content of a 206 begins, -1 if it does not say; and of how many bytes it is a part, if it says."""
    match = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", answer.headers.get("Content-Range", ""))
    if match is None:
        return -1, None
    return int(match[1] or -1), None if match[2] == "*" else int(match[2])


def _length(answer: requests.Response) -> int | None:
    """Bytes of the whole file, if an answer says; in parts it may bring less than was asked for."""
    start, total = _place(answer) if answer.status_code == 206 else (0, None)
    length = answer.headers.get("Content-Length", "")
    if total is None and length.isdecimal() and "Content-Encoding" not in answer.headers:
        total = start + int(length)
    return total


def _seconds(retry_after: str | None) -> float:
    """Of a Retry-After, which is seconds or a date."""
    if not retry_after or retry_after.isdecimal():
        return float(retry_after or 0)
    try:
        then = parsedate_to_datetime(retry_after)
    except ValueError:
        return 0.0
    return max(0.0, (then.replace(tzinfo=then.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def _report(have: int, total: int | None) -> None:
    of = "" if total is None else f"/{total / 1e6:.0f}"
    print(f"[ingest] downloaded {have / 1e6:.0f}{of} MB", flush=True)


def _tell(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    print(f"[ingest] download broken ({_words(error)}); trying again", flush=True)


def _worth_another(error: BaseException) -> bool:
    """Whether an attempt that ended so may end otherwise a moment later."""
    if isinstance(error, requests.exceptions.SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(error):
        return False
    broken = (_Again, requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
    return isinstance(error, broken)


def _words(error: BaseException | None) -> str:
    """Without addresses and Python's objects: requests' messages hold both."""
    names: dict[type[BaseException], str] = {
        requests.exceptions.SSLError: "its certificate is not trusted here, or the connection broke",
        requests.Timeout: "it takes too long to answer",
        requests.exceptions.ChunkedEncodingError: "the connection broke",
        requests.ConnectionError: "it cannot be reached, or the connection broke",
        requests.TooManyRedirects: "it redirects without end",
        requests.exceptions.InvalidSchema: "it redirects to something that is neither https:// nor http://",
        requests.RequestException: "the address or the answer is not understood",
    }
    return next((words for kind, words in names.items() if isinstance(error, kind)), str(error))
