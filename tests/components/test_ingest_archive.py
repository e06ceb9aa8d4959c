"""Archives: honest ones, damaged ones, and those that try to write elsewhere or to fill the disk."""

import dataclasses
import io
import stat
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from ingest_support import IngestFolder, settings
from support import ROOT, read_json
from support_http import Site, serve

from components.ingest.sources.archive import unpack
from components.ingest.sources.kind import SourceError
from components.ingest.step import ingest

LIMIT = 10**7


@pytest.fixture
def folder(tmp_path: Path) -> IngestFolder:
    made = IngestFolder(tmp_path / "clips")
    made.write()
    return made


def zipped(folder: Path, root: str = "", extra: dict[str, bytes] | None = None) -> bytes:
    """A folder's files as a zip, below `root`, with more members after them."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            archive.write(file, root + file.relative_to(folder).as_posix())
        for name, body in (extra or {}).items():
            archive.writestr(name, body)
    return content.getvalue()


def written(content: bytes, place: Path) -> Path:
    place.write_bytes(content)
    return place


@pytest.mark.parametrize("root", ["", "ESC-50-master/", "a/b/"])
def test_a_zip_gives_the_digest_of_its_folder(root: str, folder: IngestFolder, tmp_path: Path) -> None:
    extra = {f"{root}README.md": b"read me", f"{root}audio/deeper/x.wav": b"", f"{root}audio/.DS_Store": b""}
    file = written(zipped(folder.path, root, extra), tmp_path / "clips.zip")
    plain = ingest(str(folder.path), settings(ROOT), tmp_path / "plain")
    packed = ingest(str(file), settings(ROOT), tmp_path / "packed")
    assert packed == plain
    assert read_json(tmp_path / "packed" / "dataset.json")["source"] == "clips"
    assert (tmp_path / "packed" / "clips.csv").read_bytes() == (tmp_path / "plain" / "clips.csv").read_bytes()


def test_an_address_of_a_zip_is_a_source_and_asked_again_only_whether_it_changed(
    folder: IngestFolder, tmp_path: Path
) -> None:
    chosen = dataclasses.replace(settings(ROOT), downloads=str(tmp_path / "downloads"))
    with serve(zipped(folder.path, "ESC-50-master/")) as site:
        first = ingest(site.url, chosen, tmp_path / "one")
        assert ingest(site.url, chosen, tmp_path / "two") == first
        assert len(site.asked) == 2
    assert read_json(tmp_path / "one" / "dataset.json")["source"] == "ESC-50-master"


@pytest.mark.parametrize(
    "name",
    ["../evil.wav", "audio/../../evil.wav", "/etc/evil", "C:\\evil.wav", "..\\evil.wav", "clips/../evil"],
)
def test_a_member_that_points_outside_is_refused(name: str, folder: IngestFolder, tmp_path: Path) -> None:
    file = written(zipped(folder.path, extra={name: b"evil"}), tmp_path / "evil.zip")
    with pytest.raises(SourceError, match="points outside"):
        unpack(file, tmp_path / "out", LIMIT, "evil.zip")
    assert not list(tmp_path.rglob("evil")) and not list(tmp_path.rglob("evil.wav"))


@examples(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(st.text(st.sampled_from("a./\\:-~é\n "), min_size=1, max_size=12), max_size=3, unique=True))
def test_whatever_the_members_are_called_nothing_is_written_elsewhere(
    names: list[str], folder: IngestFolder, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = tmp_path_factory.mktemp("zip")
    extra = dict.fromkeys(names, b"x") | {f"audio/{name}": b"x" for name in names}
    file = written(zipped(folder.path, extra=extra), place / "any.zip")
    with suppress(SourceError):
        unpack(file, place / "out", LIMIT, "any.zip")
    files = [path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()]
    assert {path.rpartition("/")[0] for path in files} <= {"", "out/audio", "out/meta"}
    assert [path for path in files if "/" not in path] == ["any.zip"]


def test_a_link_is_refused(folder: IngestFolder, tmp_path: Path) -> None:
    content = io.BytesIO(zipped(folder.path))
    with zipfile.ZipFile(content, "a") as archive:
        link = zipfile.ZipInfo("audio/link.wav")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    file = written(content.getvalue(), tmp_path / "link.zip")
    with pytest.raises(SourceError, match="holds a link"):
        unpack(file, tmp_path / "out", LIMIT, "link.zip")


def test_a_bomb_stops_at_the_limit_whatever_its_header_claims(folder: IngestFolder, tmp_path: Path) -> None:
    content = zipped(folder.path, extra={"audio/bomb.wav": bytes(50 * 2**20)})
    assert len(content) < 10**6
    # A header that claims one byte: the limit counts what comes out.
    for claimed in (content, content.replace((50 * 2**20).to_bytes(4, "little"), (1).to_bytes(4, "little"))):
        file = written(claimed, tmp_path / "bomb.zip")
        with pytest.raises(SourceError, match=r"max_source_bytes|no sound zip"):
            unpack(file, tmp_path / f"out{len(list(tmp_path.iterdir()))}", LIMIT, "bomb.zip")
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.wav")) < 3 * LIMIT


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ({"audio/1-1-0.WAV": b""}, "two spellings"),
        ({"other/meta/esc50.csv": b"filename"}, "holds 2 meta/esc50.csv"),
    ],
)
def test_what_has_two_meanings_is_refused(
    extra: dict[str, bytes], said: str, folder: IngestFolder, tmp_path: Path
) -> None:
    file = written(zipped(folder.path, extra=extra), tmp_path / "odd.zip")
    with pytest.raises(SourceError, match=said):
        unpack(file, tmp_path / "out", LIMIT, "odd.zip")


def test_an_encrypted_one_is_refused(folder: IngestFolder, tmp_path: Path) -> None:
    content = bytearray(zipped(folder.path))
    for mark, flags in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        content[content.index(mark) + flags] |= 1
    with pytest.raises(SourceError, match="encrypted"):
        unpack(written(bytes(content), tmp_path / "locked.zip"), tmp_path / "out", LIMIT, "locked.zip")


@pytest.mark.parametrize("what", ["cut", "flipped", "no zip", "no table"])
def test_a_damaged_one_is_told_in_a_sentence_and_leaves_nothing(
    what: str, folder: IngestFolder, tmp_path: Path
) -> None:
    content = zipped(folder.path)
    flipped = bytearray(content)
    flipped[200] ^= 0xFF
    (folder.path / "meta" / "esc50.csv").unlink()
    broken = {"cut": content[:-300], "flipped": bytes(flipped), "no zip": b"RIFF" * 9, "no table": zipped(folder.path)}
    file = written(broken[what], tmp_path / "broken.zip")
    with pytest.raises(SourceError, match=r"no sound zip|no meta/esc50\.csv"):
        ingest(str(file), settings(ROOT), tmp_path / "work" / "dataset")
    assert not list((tmp_path / "work").iterdir())


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="there is no such file"):
        ingest(str(tmp_path / "nowhere.zip"), settings(ROOT), tmp_path / "dataset")


class TestOfficial:
    @pytest.fixture
    def site(self, folder: IngestFolder) -> Iterator[Site]:
        with serve(zipped(folder.path, "ESC-50-master/")) as server:
            yield server

    @pytest.fixture
    def listed(self, folder: IngestFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A release of eight clips in place of the one with 2,000."""
        import hashlib

        rows = ["path,md5"]
        for file in sorted(path for path in folder.path.rglob("*") if path.is_file()):
            digest = hashlib.md5(file.read_bytes()).hexdigest()
            rows.append(f"{file.relative_to(folder.path).as_posix()},{digest}")
        listing = tmp_path / "release.csv"
        listing.write_text("\n".join(rows) + "\n")
        monkeypatch.setattr("components.ingest.sources.official.RELEASE", listing)
        return listing

    def run(self, site: Site, place: Path) -> str:
        chosen = dataclasses.replace(settings(ROOT), esc50_url=site.url, downloads=str(place / "downloads"))
        return ingest("esc50", chosen, place / "dataset").digest

    def test_is_what_its_list_says(self, site: Site, listed: Path, folder: IngestFolder, tmp_path: Path) -> None:
        expected = ingest(str(folder.path), settings(ROOT), tmp_path / "plain").digest
        site.cuts = [5000]
        assert self.run(site, tmp_path) == expected
        assert self.run(site, tmp_path) == expected and len(site.asked) == 3

    @pytest.mark.parametrize(
        ("old", "new", "said"),
        [
            ("audio/1-1-0.wav,", "audio/1-1-0.wav,0", "1 files differ from it: audio/1-1-0.wav"),
            ("audio/1-1-0.wav", "audio/9-9-9.wav", "1 files are missing from it: audio/9-9-9.wav"),
            ("audio/1-1-0.wav", "audio/9-9-9.wav", "1 files do not belong to it: audio/1-1-0.wav"),
        ],
    )
    def test_of_other_bytes_is_refused_and_fetched_anew_next_time(
        self, old: str, new: str, said: str, site: Site, listed: Path, tmp_path: Path
    ) -> None:
        right = listed.read_text()
        listed.write_text(right.replace(old, new))
        with pytest.raises(SourceError, match=said):
            self.run(site, tmp_path)
        listed.write_text(right)
        self.run(site, tmp_path)
        assert site.asked == ["", ""]
