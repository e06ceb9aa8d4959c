"""Archives: honest ones, damaged ones, and those that try to write elsewhere or to fill the disk."""

import dataclasses
import io
import stat
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from unicodedata import normalize

import pandas as pd
import pytest
from helpers.http import serve
from helpers.ingest import IngestFolder, settings
from helpers.project import ROOT, read_json
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from components.ingest.sources.archive import DamagedError, unpack
from components.ingest.sources.kind import SourceError, printable
from components.ingest.step import ingest

LIMIT = 10**7
SMALL = settings(ROOT).replace(max_source_bytes=LIMIT)


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
    described = read_json(tmp_path / "packed" / "dataset.json")
    assert (described["source"], described["origin"]) == ("clips", "clips.zip")
    assert (tmp_path / "packed" / "clips.csv").read_bytes() == (tmp_path / "plain" / "clips.csv").read_bytes()


def test_an_address_of_a_zip_is_a_source_and_asked_again_only_whether_it_changed(
    folder: IngestFolder, tmp_path: Path
) -> None:
    chosen = settings(ROOT).replace(downloads=str(tmp_path / "downloads"))
    with serve(zipped(folder.path, "ESC-50-master/")) as site:
        first = ingest(site.url, chosen, tmp_path / "one")
        assert ingest(site.url, chosen, tmp_path / "two") == first
        assert len(site.asked) == 2
        secret = site.url.replace("http://", "http://me:secret@") + "?token=secret"
        assert ingest(secret, chosen, tmp_path / "three") == first
    for place in ("one", "three"):
        described = read_json(tmp_path / place / "dataset.json")
        assert (described["source"], described["origin"]) == ("ESC-50-master", site.url)


@pytest.mark.parametrize(
    "name",
    ["../evil.wav", "audio/../../evil.wav", "/etc/evil", "C:\\evil.wav", "..\\evil.wav", "clips/../evil"],
)
def test_a_member_that_points_outside_is_refused(name: str, folder: IngestFolder, tmp_path: Path) -> None:
    file = written(zipped(folder.path, extra={name: b"evil"}), tmp_path / "evil.zip")
    with pytest.raises(SourceError, match="points outside"):
        unpack(file, tmp_path / "out", SMALL, "evil.zip")
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
        unpack(file, place / "out", SMALL, "any.zip")
    files = [path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()]
    assert {path.rpartition("/")[0] for path in files} <= {"", "out/audio", "out/meta"}
    assert [path for path in files if "/" not in path] == ["any.zip"]


def packed(names: dict[str, str], folder: IngestFolder, place: Path, *, declared: bool) -> str:
    """The folder as a zip with clips under other names, in UTF-8 that is declared as such, or not."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.write(folder.table, "meta/esc50.csv")
        for file in sorted(folder.audio.iterdir()):
            name = names.get(file.name, file.name)
            # zipfile always declares it: take the flag away, as archivers of a Mac leave it out
            archive.writestr(f"audio/{name}", file.read_bytes())
    body = bytearray(content.getvalue())
    for mark, flags in () if declared else ((b"PK\x01\x02", 9), (b"PK\x03\x04", 7)):
        start = -1
        while (start := body.find(mark, start + 1)) >= 0:
            body[start + flags] &= ~0x08
    return str(written(bytes(body), place))


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_names_of_a_mac_are_matched_with_the_table(
    form: str, declared: bool, folder: IngestFolder, tmp_path: Path
) -> None:
    name = "ünï codé.wav"
    folder.row("1-1-0.wav")["filename"] = name
    folder.write()
    source = packed({"1-1-0.wav": normalize(form, name)}, folder, tmp_path / "mac.zip", declared=declared)
    assert ingest(source, settings(ROOT), tmp_path / "dataset").warnings == 0
    assert (tmp_path / "dataset" / "audio" / normalize("NFC", name)).is_file()


@pytest.mark.parametrize("odd", ["a:b.wav", "no\xa0break.wav", "new\nline.wav", "a\\b.wav"])
def test_a_clip_that_is_left_out_for_its_name_is_told(odd: str, folder: IngestFolder, tmp_path: Path) -> None:
    file = written(zipped(folder.path, extra={f"audio/{odd}": b"x"}), tmp_path / "odd.zip")
    ingest(str(file), settings(ROOT), tmp_path / "dataset")
    (finding,) = pd.read_csv(tmp_path / "dataset" / "findings.csv").itertuples()
    assert (finding.finding, finding.detail) == ("unlisted", f"1 of 9 files, {printable(odd)} the first")


@pytest.mark.parametrize(
    ("spell", "said"),
    [
        (lambda path: path.replace("/", "\\"), r"pack it again with / between folders"),
        (str.upper, r"holds no meta/esc50.csv, but 'META/ESC50.CSV' \(upper case counts: rename it\)"),
        (lambda path: path.replace("audio", "Audio"), r"holds no clip below audio/, but 'Audio/.*upper case counts"),
    ],
)
def test_a_layout_in_another_spelling_is_told_why_it_does_not_fit(
    spell: Callable[[str], str], said: str, folder: IngestFolder, tmp_path: Path
) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for file in sorted(path for path in folder.path.rglob("*") if path.is_file()):
            archive.writestr(spell(file.relative_to(folder.path).as_posix()), file.read_bytes())
    file = written(content.getvalue(), tmp_path / "spelt.zip")
    with pytest.raises(SourceError, match=said):
        unpack(file, tmp_path / "out", SMALL, "spelt.zip")


def test_a_link_is_refused(folder: IngestFolder, tmp_path: Path) -> None:
    content = io.BytesIO(zipped(folder.path))
    with zipfile.ZipFile(content, "a") as archive:
        link = zipfile.ZipInfo("audio/link.wav")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    file = written(content.getvalue(), tmp_path / "link.zip")
    with pytest.raises(SourceError, match="holds a link"):
        unpack(file, tmp_path / "out", SMALL, "link.zip")


def test_a_bomb_stops_at_the_limit_whatever_its_header_claims(folder: IngestFolder, tmp_path: Path) -> None:
    content = zipped(folder.path, extra={"audio/bomb.wav": bytes(50 * 2**20)})
    assert len(content) < 10**6
    # A header that claims one byte: the limit counts what comes out.
    for claimed in (content, content.replace((50 * 2**20).to_bytes(4, "little"), (1).to_bytes(4, "little"))):
        file = written(claimed, tmp_path / "bomb.zip")
        with pytest.raises(SourceError, match=r"max_source_bytes|no sound zip"):
            unpack(file, tmp_path / f"out{len(list(tmp_path.iterdir()))}", SMALL, "bomb.zip")
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.wav")) < 3 * LIMIT


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ({"audio/1-1-0.WAV": b""}, "two spellings"),
        ({"audio/\u00e9.wav": b"", "audio/e\u0301.wav": b""}, "two spellings"),
        ({"other/meta/esc50.csv": b"filename"}, "holds 2 meta/esc50.csv"),
    ],
)
def test_what_has_two_meanings_is_refused(
    extra: dict[str, bytes], said: str, folder: IngestFolder, tmp_path: Path
) -> None:
    file = written(zipped(folder.path, extra=extra), tmp_path / "odd.zip")
    with pytest.raises(SourceError, match=said):
        unpack(file, tmp_path / "out", SMALL, "odd.zip")


def test_an_encrypted_one_is_refused(folder: IngestFolder, tmp_path: Path) -> None:
    content = bytearray(zipped(folder.path))
    for mark, flags in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        content[content.index(mark) + flags] |= 1
    with pytest.raises(SourceError, match="encrypted"):
        unpack(written(bytes(content), tmp_path / "locked.zip"), tmp_path / "out", SMALL, "locked.zip")


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


def test_a_member_that_comes_twice_is_refused(folder: IngestFolder, tmp_path: Path) -> None:
    content = io.BytesIO(zipped(folder.path))
    with zipfile.ZipFile(content, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("audio/1-1-0.wav", b"another")
    file = written(content.getvalue(), tmp_path / "twice.zip")
    with pytest.raises(SourceError, match=r"holds 'audio/1-1-0\.wav' twice"):
        unpack(file, tmp_path / "out", SMALL, "twice.zip")


def test_too_many_members_are_refused_wherever_they_are(folder: IngestFolder, tmp_path: Path) -> None:
    file = written(zipped(folder.path, extra={f"more/{n}": b"" for n in range(5)}), tmp_path / "many.zip")
    with pytest.raises(SourceError, match=r"lists 14 members; ingest\.max_source_files allows 13"):
        unpack(file, tmp_path / "out", dataclasses.replace(SMALL, max_source_files=13), "many.zip")
    unpack(file, tmp_path / "out", dataclasses.replace(SMALL, max_source_files=14), "many.zip")


def test_a_rare_compression_is_refused(folder: IngestFolder, tmp_path: Path) -> None:
    content = io.BytesIO(zipped(folder.path))
    with zipfile.ZipFile(content, "a", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("audio/2-9-0.wav", bytes(1000))
    with pytest.raises(SourceError, match="compressed in a rare way"):
        unpack(written(content.getvalue(), tmp_path / "rare.zip"), tmp_path / "out", SMALL, "rare.zip")


def test_a_name_that_would_lead_out_of_the_workspace_is_replaced(folder: IngestFolder, tmp_path: Path) -> None:
    file = written(zipped(folder.path), tmp_path / "...zip")
    ingest(str(file), settings(ROOT), tmp_path / "work" / "dataset")
    assert read_json(tmp_path / "work" / "dataset" / "dataset.json")["source"] == "archive"
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["dataset"]


@examples(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    where=st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=4),
    value=st.integers(0, 255),
    end=st.floats(0.3, 1),
)
def test_whatever_bytes_are_damaged_it_is_told_in_one_sentence(
    where: list[float], value: int, end: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("meta/esc50.csv", b"filename\n")
        archive.writestr("audio/ü.wav", bytes(100))
    broken = bytearray(content.getvalue())
    for place in where:
        broken[int(place * len(broken))] = value
    place = tmp_path_factory.mktemp("damaged")
    file = written(bytes(broken[: int(end * len(broken))]) if end < 0.9 else bytes(broken), place / "a.zip")
    with suppress(SourceError):
        unpack(file, place / "out", SMALL, "a.zip")


def test_a_header_that_leads_to_before_the_file_is_damage(folder: IngestFolder, tmp_path: Path) -> None:
    content = bytearray(zipped(folder.path))
    start = content.rindex(b"PK\x05\x06") + 16  # where the list of members begins
    content[start : start + 4] = (int.from_bytes(content[start : start + 4], "little") + 10**6).to_bytes(4, "little")
    with pytest.raises(DamagedError, match="no sound zip"):
        unpack(written(bytes(content), tmp_path / "a.zip"), tmp_path / "out", SMALL, "a.zip")


def test_a_damaged_download_is_fetched_anew_next_time(folder: IngestFolder, tmp_path: Path) -> None:
    chosen = settings(ROOT).replace(downloads=str(tmp_path / "downloads"))
    sound = zipped(folder.path)
    with serve(sound[:-300]) as site:
        with pytest.raises(SourceError, match="no sound zip") as raised:
            ingest(f"{site.url}?token=secret", chosen, tmp_path / "dataset")
        assert "secret" not in str(raised.value)
        site.content = sound
        assert ingest(f"{site.url}?token=secret", chosen, tmp_path / "dataset").clips == 8
