"""Downloads from servers that interrupt, refuse and redirect."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.http import Site, serve

from components.ingest.sources import SourceError
from components.ingest.sources.download import ATTEMPTS, download, redact

CONTENT = bytes(range(256)) * 20_000  # 5 MB: several chunks
LIMIT = 10**9


@pytest.fixture
def site() -> Iterator[Site]:
    with serve(CONTENT) as server:
        yield server


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "file"


def get(site: Site, file: Path, limit: int = LIMIT) -> bytes:
    download(site.url, file, limit, wait=0.001)
    return file.read_bytes()


def test_interrupted_download_is_resumed(site: Site, file: Path) -> None:
    site.cuts = [2_000_000, 1_000_000]
    assert get(site, file) == CONTENT
    starts = [int(request.removeprefix("bytes=").rstrip("-") or 0) for request in site.requests]
    assert len(starts) == 3 and starts == sorted(starts) and starts[1] > 1_000_000


def test_existing_part_is_completed(site: Site, file: Path) -> None:
    file.write_bytes(CONTENT[:1_000_000])
    assert get(site, file) == CONTENT and site.requests == ["bytes=1000000-"]


def test_server_without_ranges_sends_the_whole_file_again(site: Site, file: Path) -> None:
    site.ranges, site.cuts = False, [2_000_000]
    assert get(site, file) == CONTENT


def test_chunked_response_is_resumed(site: Site, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site.chunked, site.cuts = True, [3_000_000]
    assert get(site, file) == CONTENT and site.requests[1].startswith("bytes=")
    assert "[ingest] downloaded 5.1 MB" in capsys.readouterr().out


def test_response_without_length_and_etag_is_read_to_its_end(site: Site, file: Path) -> None:
    site.length, site.etag = False, ""
    assert get(site, file) == CONTENT


def test_file_that_is_longer_than_on_the_server_is_replaced(site: Site, file: Path) -> None:
    file.write_bytes(CONTENT)
    site.content = CONTENT[:1000]
    assert get(site, file) == CONTENT[:1000] and site.requests[-1] == ""


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_busy_server_is_retried(status: int, site: Site, file: Path) -> None:
    site.statuses = [status, status]
    assert get(site, file) == CONTENT and len(site.requests) == 3


def test_wait_doubles_with_each_attempt(site: Site, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("tenacity.nap.time.sleep", waits.append)
    site.statuses = [503] * ATTEMPTS
    with pytest.raises(SourceError, match="the server responds with status 503"):
        download(site.url, file, LIMIT, wait=2)
    assert len(waits) == ATTEMPTS - 1 == len(site.requests) - 1
    assert all(2 * 2**n <= wait <= 2 * 2**n + 2 for n, wait in enumerate(waits))


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_refused_request_is_not_retried(status: int, site: Site, file: Path) -> None:
    site.statuses = [status]
    with pytest.raises(SourceError, match=f"the server responds with status {status}"):
        get(site, file)
    assert len(site.requests) == 1


def test_interruptions_without_end_raise_an_error(site: Site, file: Path) -> None:
    site.ranges, site.cuts = False, [1000] * 100
    with pytest.raises(SourceError, match="the connection was interrupted"):
        get(site, file)
    assert len(site.requests) == ATTEMPTS


@pytest.mark.parametrize("length", [True, False])
def test_too_large_file_is_refused_and_removed(length: bool, site: Site, file: Path) -> None:
    site.length = length
    with pytest.raises(SourceError, match=r"larger than 3000000 bytes \(ingest\.max_source_bytes\)"):
        get(site, file, limit=3_000_000)
    assert not file.exists()


def test_redirect_is_followed(site: Site, file: Path) -> None:
    site.statuses, site.headers = [302], {"Location": site.url}
    assert get(site, file) == CONTENT


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x.zip", "gopher://127.0.0.1/"])
def test_redirect_to_another_protocol_is_refused(target: str, site: Site, file: Path) -> None:
    site.statuses, site.headers = [302], {"Location": target}
    with pytest.raises(SourceError, match="the URL, or the URL of a redirect, is invalid"):
        get(site, file)
    assert len(site.requests) == 1


INVALID = [f"http://{80 * 'a'}.b/x.zip", "http://[::1/x.zip", "http://exa mple.org:port/x.zip"]


@pytest.mark.parametrize("url", [*INVALID, "http://", "http://[", "http:///x", "http://h:port/x"])
def test_invalid_url_is_refused(url: str, file: Path) -> None:
    with pytest.raises(SourceError, match="cannot be downloaded: the URL, or the URL of a redirect, is invalid"):
        download(url, file, LIMIT)


@pytest.mark.parametrize("url", INVALID)
def test_redirect_to_invalid_url_is_refused(url: str, site: Site, file: Path) -> None:
    site.statuses, site.headers = [302], {"Location": url}
    with pytest.raises(SourceError, match="cannot be downloaded: the URL, or the URL of a redirect, is invalid"):
        get(site, file)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/x.zip", "http://no-such-host.invalid/x.zip"])
def test_unreachable_server_is_reported(url: str, file: Path) -> None:
    with pytest.raises(SourceError, match="cannot be reached; check the host and the port"):
        download(url, file, LIMIT, wait=0.001)


def test_messages_have_no_secrets(file: Path) -> None:
    with pytest.raises(SourceError, match="cannot be reached") as raised:
        download("http://me:secret@127.0.0.1:9/clips.zip?token=secret", file, LIMIT, wait=0.001)
    assert "secret" not in str(raised.value) and "http://127.0.0.1:9/clips.zip" in str(raised.value)
    assert redact("https://u:p@host/a.zip?sig=1#x") == "https://host/a.zip"
