"""Downloads from a server that cuts, forgets, changes its mind and asks to wait."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from helpers.http import Site, serve
from helpers.project import ROOT

from components.ingest.sources.download import STALLS, download, forget, shown
from components.ingest.sources.kind import SourceError

CONTENT = bytes(range(256)) * 20_000  # 5 MB: several pieces


@pytest.fixture
def site() -> Iterator[Site]:
    with serve(CONTENT) as server:
        yield server


def get(site: Site, folder: Path, limit: int = 10**9) -> bytes:
    return download(site.url, folder, limit, pause=0.001).read_bytes()


def test_a_broken_download_goes_on_where_it_stopped(site: Site, tmp_path: Path) -> None:
    site.cuts = [2_000_000, 1_000_000]
    assert get(site, tmp_path) == CONTENT
    starts = [int(asked.removeprefix("bytes=").rstrip("-") or 0) for asked in site.asked]
    assert len(starts) == 3 and starts == sorted(starts) and starts[1] > 1_000_000


def test_a_connection_that_breaks_again_and_again_is_no_reason_to_give_up_while_it_gets_further(
    site: Site, tmp_path: Path
) -> None:
    site.cuts = [400_000] * 2 * STALLS
    assert get(site, tmp_path) == CONTENT and len(site.asked) > 2 * STALLS


def test_a_server_without_ranges_is_read_from_the_start_again(site: Site, tmp_path: Path) -> None:
    site.ranges, site.cuts = False, [2_000_000]
    assert get(site, tmp_path) == CONTENT


def test_a_beginning_of_another_version_is_thrown_away(site: Site, tmp_path: Path) -> None:
    assert 0 < _interrupted(site, tmp_path) < len(CONTENT)
    site.content, site.etag = CONTENT[::-1], '"two"'
    assert get(site, tmp_path) == CONTENT[::-1]


def test_a_server_that_ignores_the_condition_does_not_mix_two_versions(site: Site, tmp_path: Path) -> None:
    _interrupted(site, tmp_path)
    site.content, site.etag, site.if_range = CONTENT[::-1], '"two"', False
    site.asked.clear()
    assert get(site, tmp_path) == CONTENT[::-1]
    assert site.asked[0].startswith("bytes=") and site.asked[1] == ""


def test_a_part_that_begins_elsewhere_is_thrown_away(site: Site, tmp_path: Path) -> None:
    _interrupted(site, tmp_path)
    site.shift = 7
    assert get(site, tmp_path) == CONTENT and site.asked[-1] == ""


def test_parts_smaller_than_asked_for_are_put_together(site: Site, tmp_path: Path) -> None:
    have = _interrupted(site, tmp_path)
    site.asked.clear()
    site.piece = 1_000_000
    assert get(site, tmp_path) == CONTENT
    assert site.asked == [f"bytes={start}-" for start in range(have, len(CONTENT), site.piece)]


def test_a_beginning_that_lacks_nothing_is_not_fetched_again(site: Site, tmp_path: Path) -> None:
    _interrupted(site, tmp_path)
    next(tmp_path.glob("*.part")).write_bytes(CONTENT)
    site.asked.clear()
    assert get(site, tmp_path) == CONTENT and site.asked == [f"bytes={len(CONTENT)}-"]


def test_a_weak_name_proves_nothing_but_a_date_does(site: Site, tmp_path: Path) -> None:
    site.etag, site.cuts = 'W/"one"', [2_000_000]
    assert get(site, tmp_path / "weak") == CONTENT and site.asked == ["", ""]
    site.asked.clear()
    site.modified, site.cuts = "Tue, 24 Nov 2026 12:00:00 GMT", [2_000_000]
    assert get(site, tmp_path / "dated") == CONTENT and site.asked[1].startswith("bytes=")


def test_chunks_without_a_length_are_resumed_and_counted(site: Site, tmp_path: Path, capsys) -> None:
    site.chunked, site.cuts = True, [3_000_000]
    assert get(site, tmp_path) == CONTENT and site.asked[1].startswith("bytes=")
    assert "[ingest] downloaded 5/5 MB" in capsys.readouterr().out
    forget(site.url, tmp_path)
    assert get(site, tmp_path) == CONTENT
    assert "[ingest] downloaded 5 MB" in capsys.readouterr().out


def test_a_server_that_says_no_length_and_no_name_is_read_to_its_end(site: Site, tmp_path: Path) -> None:
    site.length, site.etag = False, ""
    assert get(site, tmp_path) == CONTENT
    assert get(site, tmp_path) == CONTENT and site.asked == ["", ""]


def test_a_file_shorter_than_its_beginning_is_fetched_anew(site: Site, tmp_path: Path) -> None:
    _interrupted(site, tmp_path)
    site.content = CONTENT[:1000]
    assert get(site, tmp_path) == CONTENT[:1000]


def test_what_is_there_already_is_not_sent_again(site: Site, tmp_path: Path) -> None:
    first = download(site.url, tmp_path, 10**9)
    stamp = first.stat().st_mtime_ns
    assert download(site.url, tmp_path, 10**9).stat().st_mtime_ns == stamp
    site.etag, site.content = '"two"', b"new"
    assert get(site, tmp_path) == b"new"
    forget(site.url, tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.suffix != ".lock"]


def test_a_copy_serves_while_the_server_is_down(site: Site, tmp_path: Path, capsys) -> None:
    assert get(site, tmp_path) == CONTENT
    site.statuses = [503] * STALLS
    assert get(site, tmp_path) == CONTENT
    assert "taking the copy" in capsys.readouterr().out


def test_a_copy_that_has_changed_on_the_disk_is_fetched_anew(site: Site, tmp_path: Path) -> None:
    kept = download(site.url, tmp_path, 10**9)
    kept.write_bytes(b"rotten")
    assert get(site, tmp_path) == CONTENT and site.asked == ["", ""]


def test_what_never_changes_is_asked_for_once(site: Site, tmp_path: Path) -> None:
    for _ in range(2):
        assert download(site.url, tmp_path, 10**9, fixed=True).read_bytes() == CONTENT
    assert len(site.asked) == 1


def test_a_new_version_that_breaks_off_leaves_the_old_one(site: Site, tmp_path: Path) -> None:
    assert get(site, tmp_path) == CONTENT
    site.content, site.etag, site.ranges, site.cuts = CONTENT[::-1], '"two"', False, [1000] * 100
    assert get(site, tmp_path) == CONTENT


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_a_busy_server_is_asked_again(status: int, site: Site, tmp_path: Path) -> None:
    site.statuses, site.headers = [status, status], {"Retry-After": "0"}
    assert get(site, tmp_path) == CONTENT and len(site.asked) == 3


def test_the_wait_that_a_server_asks_for_is_kept(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("tenacity.nap.time.sleep", waits.append)
    site.statuses, site.headers = [503, 503], {"Retry-After": "7"}
    assert get(site, tmp_path) == CONTENT and waits == [7.0, 7.0]
    site.statuses, site.headers = [503], {"Retry-After": "86400"}
    forget(site.url, tmp_path)
    assert get(site, tmp_path) == CONTENT and waits[-1] == 60.0


def test_a_wait_until_a_date_is_kept_too(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("tenacity.nap.time.sleep", waits.append)
    then = datetime.now(UTC) + timedelta(seconds=40)
    site.statuses, site.headers = [503], {"Retry-After": format_datetime(then, usegmt=True)}
    assert get(site, tmp_path) == CONTENT and 1 < waits[0] <= 40
    forget(site.url, tmp_path)
    site.statuses, site.headers = [503], {"Retry-After": "soon"}
    assert get(site, tmp_path) == CONTENT and waits[1] < 1


def test_the_wait_grows_from_attempt_to_attempt(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("tenacity.nap.time.sleep", waits.append)
    site.statuses = [503] * STALLS
    with pytest.raises(SourceError, match="the server answers 503"):
        download(site.url, tmp_path, 10**9, pause=2)
    assert len(waits) == STALLS - 1 == len(site.asked) - 1
    assert all(2 * 2**n <= wait <= 2 * 2**n + 2 for n, wait in enumerate(waits))


def test_a_redirect_is_followed(site: Site, tmp_path: Path) -> None:
    site.statuses, site.headers = [302], {"Location": site.url}
    assert get(site, tmp_path) == CONTENT


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x.zip", "gopher://127.0.0.1/"])
def test_a_redirect_to_something_else_is_refused_at_once(target: str, site: Site, tmp_path: Path) -> None:
    site.statuses, site.headers = [302], {"Location": target}
    with pytest.raises(SourceError, match="neither https:// nor http://"):
        get(site, tmp_path)
    assert len(site.asked) == 1


@pytest.mark.parametrize(
    "url", ["http://", "http://[", "https://[::1", "http://.a.b/x", "http:///x", "http://h:port/x"]
)
def test_an_address_that_is_none_is_refused_at_once(url: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cannot be downloaded"):
        download(url, tmp_path, 1)


def test_a_folder_that_cannot_be_written_is_said(site: Site, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SourceError, match=r"\(ingest\.downloads\) cannot be used"):
        get(site, tmp_path / "file")


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_refusal_is_not_asked_again(status: int, site: Site, tmp_path: Path) -> None:
    site.statuses = [status]
    with pytest.raises(SourceError, match=f"the server answers {status}"):
        get(site, tmp_path)
    assert len(site.asked) == 1


def test_a_server_that_never_gets_further_is_given_up(site: Site, tmp_path: Path) -> None:
    site.ranges, site.cuts = False, [1000] * 100
    with pytest.raises(SourceError, match="run again to go on where it stopped"):
        get(site, tmp_path)
    assert len(site.asked) <= STALLS + 1


@pytest.mark.parametrize("length", [True, False])
def test_more_than_is_allowed_is_refused_and_not_kept(length: bool, site: Site, tmp_path: Path) -> None:
    site.length = length
    with pytest.raises(SourceError, match=r"larger than ingest\.max_source_bytes"):
        get(site, tmp_path, limit=3_000_000)
    assert not list(tmp_path.glob("*.part"))


def test_nobody_there_is_said_without_the_password(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cannot be reached") as raised:
        download("http://me:secret@127.0.0.1:9/clips.zip?token=secret", tmp_path, 1, pause=0.001)
    assert "secret" not in str(raised.value) and "http://127.0.0.1:9/clips.zip" in str(raised.value)
    assert shown("https://u:p@host/a.zip?sig=1#x") == "https://host/a.zip"


def test_two_at_once_do_not_spoil_each_other(site: Site, tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        paths = pool.starmap(download, [(site.url, tmp_path, 10**9)] * 2)
    assert [path.read_bytes() for path in paths] == [CONTENT, CONTENT]
    assert len(site.asked) == 2, "the second only asks whether the file has changed"


def test_a_killed_process_leaves_a_beginning_that_the_next_run_goes_on_with(site: Site, tmp_path: Path) -> None:
    have = _interrupted(site, tmp_path)
    site.asked.clear()
    assert get(site, tmp_path) == CONTENT
    assert site.asked == [f"bytes={have}-"]


def _interrupted(site: Site, folder: Path) -> int:
    """Kill a process in the middle of the download; how many bytes it has left."""
    site.cuts, site.hold = [3_000_000], threading.Event()
    code = "import sys, pathlib; from components.ingest.sources.download import download; "
    code += "download(sys.argv[1], pathlib.Path(sys.argv[2]), 10**9)"
    process = subprocess.Popen([sys.executable, "-c", code, site.url, str(folder)], cwd=ROOT)
    deadline = time.monotonic() + 60
    while not (parts := [part for part in folder.glob("*.part") if part.stat().st_size >= 2_000_000]):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    site.hold.set()
    site.hold = None
    assert json.loads(next(folder.glob("*.part.json")).read_text())["etag"] == site.etag
    return parts[0].stat().st_size


@pytest.mark.parametrize("bad", [f"http://{80 * 'a'}.b/x.zip", "http://[::1/x.zip", "http://exa mple.org:port/x.zip"])
@pytest.mark.parametrize("redirected", [False, True])
def test_an_address_that_is_none_is_told_in_a_sentence(bad: str, redirected: bool, site: Site, tmp_path: Path) -> None:
    if redirected:
        site.statuses, site.headers = [302], {"Location": bad}
    with pytest.raises(SourceError, match="cannot be downloaded: the address or the answer is not understood"):
        download(site.url if redirected else bad, tmp_path, 10**9, pause=0.001)
