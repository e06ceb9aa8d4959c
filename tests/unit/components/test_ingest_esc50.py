"""The source esc50, with a small release instead of the official one."""

import hashlib
import io
import threading
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from helpers.http import Site, serve
from helpers.ingest import IngestFolder, ingest, settings
from helpers.project import ROOT

from components.ingest.sources import SourceError, esc50
from mlops.artifacts import DatasetFolder


@pytest.fixture
def folder(tmp_path: Path) -> IngestFolder:
    made = IngestFolder(tmp_path / "clips")
    made.write()
    return made


def files(folder: IngestFolder) -> dict[str, bytes]:
    found = sorted(path for path in folder.path.rglob("*") if path.is_file())
    return {path.relative_to(folder.path).as_posix(): path.read_bytes() for path in found}


def zipped(members: dict[str, bytes]) -> bytes:
    """Return an archive as GitHub creates it: below one folder, with other files."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in {"README.md": b"read me", **members}.items():
            archive.writestr(f"ESC-50-master/{name}", body)
    return content.getvalue()


@pytest.fixture
def site(folder: IngestFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Site]:
    """A server with a release of eight clips, whose checksums replace the official ones."""
    rows = ["path,md5", *(f"{path},{hashlib.md5(content).hexdigest()}" for path, content in files(folder).items())]
    listing = tmp_path / "release.csv"
    listing.write_text("\n".join(rows) + "\n")
    monkeypatch.setattr(esc50, "CHECKSUMS", listing)
    with serve(zipped(files(folder))) as server:
        yield server


def ingest_release(site: Site, place: Path) -> str:
    chosen = settings(ROOT).replace(esc50_url=site.url, downloads=str(place / "downloads"))
    return ingest("esc50", chosen, place / "work" / "dataset").digest


def test_digest_equals_that_of_the_folder(site: Site, folder: IngestFolder, tmp_path: Path) -> None:
    site.cuts = [5000]
    assert ingest_release(site, tmp_path) == ingest(str(folder.path), settings(ROOT), tmp_path / "plain").digest
    assert len(site.requests) == 2
    record = DatasetFolder(tmp_path / "work" / "dataset").record()
    assert (record.source, record.origin) == ("ESC-50", "esc50")


def test_intact_download_is_used_again_without_a_request(site: Site, tmp_path: Path) -> None:
    first = ingest_release(site, tmp_path)
    assert ingest_release(site, tmp_path) == first and len(site.requests) == 1


def test_damaged_download_is_refused_and_downloaded_again_by_the_next_run(site: Site, tmp_path: Path) -> None:
    first = ingest_release(site, tmp_path)
    kept = next((tmp_path / "downloads").glob("*.zip"))
    content = bytearray(kept.read_bytes())
    content[300] ^= 1
    kept.write_bytes(content)
    with pytest.raises(SourceError, match="run again to download it again"):
        ingest_release(site, tmp_path)
    assert ingest_release(site, tmp_path) == first and site.requests == ["", ""]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"audio/1-1-0.wav": b"other"}, r"1 changed files, the first is audio/1-1-0\.wav"),
        ({"audio/1-1-0.wav": None}, r"1 missing files, the first is audio/1-1-0\.wav"),
        ({"audio/9-9-9.wav": b"more"}, r"1 unexpected files, the first is audio/9-9-9\.wav"),
        ({"meta/esc50.csv": b"filename\n"}, r"1 changed files, the first is meta/esc50\.csv"),
    ],
)
def test_other_content_is_refused_and_downloaded_again(
    change: dict[str, bytes | None], message: str, site: Site, folder: IngestFolder, tmp_path: Path
) -> None:
    sound = site.content
    changed = {**files(folder), **change}
    site.content = zipped({name: content for name, content in changed.items() if content is not None})
    with pytest.raises(
        SourceError, match=f"differs from the official release: {message}.*run again to download it again"
    ):
        ingest_release(site, tmp_path)
    assert not list((tmp_path / "work").iterdir())
    site.content = sound
    ingest_release(site, tmp_path)
    assert site.requests == ["", ""]


def test_download_is_kept_if_unpacking_exceeds_the_limit(site: Site, tmp_path: Path) -> None:
    chosen = settings(ROOT).replace(esc50_url=site.url, downloads=str(tmp_path / "downloads"))
    tight = chosen.replace(max_source_bytes=len(site.content))
    with pytest.raises(SourceError, match=r"unpacks to more than \d+ bytes \(ingest\.max_source_bytes\)"):
        ingest("esc50", tight, tmp_path / "dataset")
    assert ingest("esc50", chosen, tmp_path / "dataset").clips == 8 and len(site.requests) == 1


def test_download_of_a_killed_run_is_continued(site: Site, tmp_path: Path) -> None:
    downloads = tmp_path / "downloads"
    digest = ingest_release(site, tmp_path)
    (archive,) = downloads.glob("*.zip")
    archive.with_suffix(".part").write_bytes(site.content[:5000])
    archive.unlink()
    assert ingest_release(site, tmp_path) == digest and site.requests == ["", "bytes=5000-"]
    assert not list(downloads.glob("*.part"))


def test_concurrent_runs_download_once(site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chosen = settings(ROOT).replace(esc50_url=site.url, downloads=str(tmp_path / "downloads"))
    site.cuts, site.hold = [5000], threading.Event()
    with ThreadPoolExecutor() as pool:
        runs = [pool.submit(ingest, "esc50", chosen, tmp_path / name) for name in ("one", "two")]
        while "another run is downloading" not in capsys.readouterr().out:
            time.sleep(0.05)
        site.hold.set()
        assert runs[0].result() == runs[1].result()
    assert len(site.requests) == 2


def test_checksums_cover_every_file() -> None:
    checksums = esc50.read_checksums()
    assert len(checksums) == 2001 and sum(path.startswith("audio/") for path in checksums) == 2000
    assert all(len(md5) == 32 for md5 in checksums.values())
