"""The official release: a small one in its place, served whole, altered, and over a broken connection."""

import hashlib
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.http import Site, serve
from helpers.ingest import IngestFolder, settings
from helpers.project import ROOT, read_json

from components.ingest.sources import official
from components.ingest.sources.kind import SourceError
from components.ingest.step import ingest


@pytest.fixture
def folder(tmp_path: Path) -> IngestFolder:
    made = IngestFolder(tmp_path / "clips")
    made.write()
    return made


def files(folder: IngestFolder) -> dict[str, bytes]:
    found = sorted(path for path in folder.path.rglob("*") if path.is_file())
    return {path.relative_to(folder.path).as_posix(): path.read_bytes() for path in found}


def zipped(members: dict[str, bytes]) -> bytes:
    """Below one folder, beside a file that no data set needs, as GitHub packs a repository."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in {"README.md": b"read me", **members}.items():
            archive.writestr(f"ESC-50-master/{name}", body)
    return content.getvalue()


@pytest.fixture
def site(folder: IngestFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Site]:
    """A server with a release of eight clips, and the list of its MD5s in place of the official one's."""
    rows = ["path,md5", *(f"{path},{hashlib.md5(content).hexdigest()}" for path, content in files(folder).items())]
    listing = tmp_path / "release.csv"
    listing.write_text("\n".join(rows) + "\n")
    monkeypatch.setattr(official, "RELEASE", listing)
    with serve(zipped(files(folder))) as server:
        yield server


def run(site: Site, place: Path) -> str:
    chosen = settings(ROOT).replace(esc50_url=site.url, downloads=str(place / "downloads"))
    return ingest("esc50", chosen, place / "work" / "dataset").digest


def test_gives_the_digest_of_the_folder(site: Site, folder: IngestFolder, tmp_path: Path) -> None:
    site.cuts = [5000]
    assert run(site, tmp_path) == ingest(str(folder.path), settings(ROOT), tmp_path / "plain").digest
    assert len(site.asked) == 2
    described = read_json(tmp_path / "work" / "dataset" / "dataset.json")
    assert (described["source"], described["origin"]) == ("ESC-50", "esc50")


def test_is_taken_from_the_last_download_without_asking_while_that_is_unchanged(site: Site, tmp_path: Path) -> None:
    first = run(site, tmp_path)
    assert run(site, tmp_path) == first and len(site.asked) == 1
    kept = next(path for path in (tmp_path / "downloads").iterdir() if path.stat().st_size == len(site.content))
    content = bytearray(kept.read_bytes())
    content[300] ^= 1
    kept.write_bytes(content)
    assert run(site, tmp_path) == first and site.asked == ["", ""]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"audio/1-1-0.wav": b"other"}, r"altered: 1 file \(audio/1-1-0\.wav\)"),
        ({"audio/1-1-0.wav": None}, r"missing: 1 file \(audio/1-1-0\.wav\)"),
        ({"audio/9-9-9.wav": b"more"}, r"not part of it: 1 file \(audio/9-9-9\.wav\)"),
        ({"meta/esc50.csv": b"filename\n"}, r"altered: 1 file \(meta/esc50\.csv\)"),
    ],
)
def test_of_other_content_is_refused_by_name_and_fetched_anew_next_time(
    change: dict[str, bytes | None], said: str, site: Site, folder: IngestFolder, tmp_path: Path
) -> None:
    sound = site.content
    changed = {**files(folder), **change}
    site.content = zipped({name: content for name, content in changed.items() if content is not None})
    with pytest.raises(SourceError, match=f"not the official release .*{said}.*run again to download it anew"):
        run(site, tmp_path)
    assert not list((tmp_path / "work").iterdir())
    site.content = sound
    run(site, tmp_path)
    assert site.asked == ["", ""]


def test_too_large_for_the_limit_is_said_and_what_was_downloaded_stays(site: Site, tmp_path: Path) -> None:
    chosen = settings(ROOT).replace(esc50_url=site.url, downloads=str(tmp_path / "downloads"))
    tight = chosen.replace(max_source_bytes=len(site.content))
    with pytest.raises(SourceError, match=r"unpacks to more than ingest\.max_source_bytes"):
        ingest("esc50", tight, tmp_path / "dataset")
    assert ingest("esc50", chosen, tmp_path / "dataset").clips == 8 and len(site.asked) == 1


def test_the_list_that_is_shipped_has_every_file_once() -> None:
    release = official.release()
    assert len(release) == 2001 and sum(path.startswith("audio/") for path in release) == 2000
    assert all(len(md5) == 32 for md5 in release.values())
