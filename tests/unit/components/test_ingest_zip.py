"""Zip archives: valid, damaged and malicious ones."""

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
from helpers.ingest import IngestFolder, ingest, settings
from helpers.project import ROOT
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from components.ingest.sources import SourceError
from components.ingest.sources.layout import printable
from components.ingest.sources.zip_archive import DamagedArchiveError, unpack
from mlops.artifacts import DatasetFolder

LIMIT = 10**7
SMALL = settings(ROOT).replace(max_source_bytes=LIMIT)


@pytest.fixture
def folder(tmp_path: Path) -> IngestFolder:
    made = IngestFolder(tmp_path / "clips")
    made.write()
    return made


def zipped(folder: Path, root: str = "", extra: dict[str, bytes] | None = None) -> bytes:
    """Return a folder as a zip archive, below `root`, with additional members."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            archive.write(file, root + file.relative_to(folder).as_posix())
        for name, body in (extra or {}).items():
            archive.writestr(name, body)
    return content.getvalue()


def write(content: bytes, place: Path) -> Path:
    place.write_bytes(content)
    return place


@pytest.mark.parametrize("root", ["", "ESC-50-master/", "a/b/"])
def test_digest_equals_that_of_the_folder(root: str, folder: IngestFolder, tmp_path: Path) -> None:
    extra = {f"{root}README.md": b"read me", f"{root}audio/deeper/x.wav": b"", f"{root}audio/.DS_Store": b""}
    file = write(zipped(folder.path, root, extra), tmp_path / "clips.zip")
    plain = ingest(str(folder.path), settings(ROOT), tmp_path / "plain")
    packed = ingest(str(file), settings(ROOT), tmp_path / "packed")
    assert packed == plain
    record = DatasetFolder(tmp_path / "packed").record()
    assert (record.source, record.origin) == ("clips", "clips.zip")
    assert (tmp_path / "packed" / "clips.csv").read_bytes() == (tmp_path / "plain" / "clips.csv").read_bytes()


def test_url_is_downloaded_for_each_run_and_stored_without_secrets(folder: IngestFolder, tmp_path: Path) -> None:
    chosen = settings(ROOT).replace(downloads=str(tmp_path / "downloads"))
    with serve(zipped(folder.path, "ESC-50-master/")) as site:
        first = ingest(site.url, chosen, tmp_path / "one")
        assert ingest(site.url, chosen, tmp_path / "two") == first
        assert site.requests == ["", ""] and not (tmp_path / "downloads").exists()
        secret = site.url.replace("http://", "http://me:secret@") + "?token=secret"
        assert ingest(secret, chosen, tmp_path / "three") == first
    for place in ("one", "three"):
        record = DatasetFolder(tmp_path / place).record()
        assert (record.source, record.origin) == ("ESC-50-master", site.url)


@pytest.mark.parametrize(
    "name", ["../evil.wav", "audio/../../evil.wav", "/etc/evil", "C:\\evil.wav", "..\\evil.wav", "clips/../evil"]
)
def test_member_outside_the_archive_is_ignored(name: str, folder: IngestFolder, tmp_path: Path) -> None:
    file = write(zipped(folder.path, extra={name: b"evil"}), tmp_path / "evil.zip")
    unpack(file, tmp_path / "out", SMALL, "evil.zip")
    assert not list(tmp_path.rglob("*evil")) and not list(tmp_path.rglob("*evil.wav"))


@examples(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(st.text(st.sampled_from("a./\\:-~é\n "), min_size=1, max_size=12), max_size=3, unique=True))
def test_no_member_name_writes_outside_the_folder(
    names: list[str], folder: IngestFolder, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = tmp_path_factory.mktemp("zip")
    extra = dict.fromkeys(names, b"x") | {f"audio/{name}": b"x" for name in names}
    file = write(zipped(folder.path, extra=extra), place / "any.zip")
    with suppress(SourceError):
        unpack(file, place / "out", SMALL, "any.zip")
    files = [path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()]
    assert {path.rpartition("/")[0] for path in files} <= {"", "out/audio", "out/meta"}
    assert [path for path in files if "/" not in path] == ["any.zip"]


def packed(names: dict[str, str], folder: IngestFolder, place: Path, *, declared: bool) -> str:
    """Return a zip archive of the folder with renamed clips; UTF-8 names are declared as such, or not."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.write(folder.table, "meta/esc50.csv")
        for file in sorted(folder.audio.iterdir()):
            name = names.get(file.name, file.name)
            archive.writestr(f"audio/{name}", file.read_bytes())
    body = bytearray(content.getvalue())
    # zipfile always sets the UTF-8 flag; archivers of macOS do not.
    for mark, flags in () if declared else ((b"PK\x01\x02", 9), (b"PK\x03\x04", 7)):
        start = -1
        while (start := body.find(mark, start + 1)) >= 0:
            body[start + flags] &= ~0x08
    return str(write(bytes(body), place))


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_names_of_macos_match_the_table(form: str, declared: bool, folder: IngestFolder, tmp_path: Path) -> None:
    name = "ünï codé.wav"
    folder.row("1-1-0.wav")["filename"] = name
    folder.write()
    source = packed({"1-1-0.wav": normalize(form, name)}, folder, tmp_path / "mac.zip", declared=declared)
    assert ingest(source, settings(ROOT), tmp_path / "dataset").warnings == 0
    assert (tmp_path / "dataset" / "audio" / normalize("NFC", name)).is_file()


@pytest.mark.parametrize("odd", ["a:b.wav", "no\xa0break.wav", "new\nline.wav", "a\\b.wav"])
def test_clip_with_invalid_file_name_is_reported_as_unlisted(odd: str, folder: IngestFolder, tmp_path: Path) -> None:
    file = write(zipped(folder.path, extra={f"audio/{odd}": b"x"}), tmp_path / "odd.zip")
    ingest(str(file), settings(ROOT), tmp_path / "dataset")
    (finding,) = pd.read_csv(tmp_path / "dataset" / "findings.csv").itertuples()
    assert (finding.finding, finding.detail) == ("unlisted", f"1 of 9 files, for example {printable(odd)}")


@pytest.mark.parametrize(
    ("spell", "message"),
    [
        (lambda path: path.replace("/", "\\"), r"has no meta/esc50\.csv; .* with / between folders"),
        (str.upper, r"has no meta/esc50\.csv; .* in lower case"),
        (lambda path: path.replace("audio", "Audio"), r"has no clips in audio/ \(in lower case"),
    ],
)
def test_other_spelling_of_the_layout_is_explained(
    spell: Callable[[str], str], message: str, folder: IngestFolder, tmp_path: Path
) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for file in sorted(path for path in folder.path.rglob("*") if path.is_file()):
            archive.writestr(spell(file.relative_to(folder.path).as_posix()), file.read_bytes())
    file = write(content.getvalue(), tmp_path / "spelt.zip")
    with pytest.raises(SourceError, match=message):
        unpack(file, tmp_path / "out", SMALL, "spelt.zip")


def test_link_becomes_a_file_with_its_text(folder: IngestFolder, tmp_path: Path) -> None:
    content = io.BytesIO(zipped(folder.path))
    with zipfile.ZipFile(content, "a") as archive:
        link = zipfile.ZipInfo("audio/link.wav")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    file = write(content.getvalue(), tmp_path / "link.zip")
    unpack(file, tmp_path / "out", SMALL, "link.zip")
    unpacked = tmp_path / "out" / "audio" / "link.wav"
    assert not unpacked.is_symlink() and unpacked.read_text() == "/etc/passwd"


def test_zip_bomb_is_stopped_at_the_limit(folder: IngestFolder, tmp_path: Path) -> None:
    content = zipped(folder.path, extra={"audio/bomb.wav": bytes(50 * 2**20)})
    assert len(content) < 10**6
    # In the second archive, the header declares one byte.
    for claimed in (content, content.replace((50 * 2**20).to_bytes(4, "little"), (1).to_bytes(4, "little"))):
        file = write(claimed, tmp_path / "bomb.zip")
        with pytest.raises(SourceError, match=r"max_source_bytes|cannot be unpacked"):
            unpack(file, tmp_path / f"out{len(list(tmp_path.iterdir()))}", SMALL, "bomb.zip")
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.wav")) < 3 * LIMIT


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"audio/1-1-0.WAV": b""}, "twice, possibly with different"),
        ({"audio/\u00e9.wav": b"", "audio/e\u0301.wav": b""}, "twice, possibly with different"),
        ({"other/meta/esc50.csv": b"filename"}, "has 2 meta/esc50.csv"),
    ],
)
def test_ambiguous_archive(extra: dict[str, bytes], message: str, folder: IngestFolder, tmp_path: Path) -> None:
    file = write(zipped(folder.path, extra=extra), tmp_path / "odd.zip")
    with pytest.raises(SourceError, match=message):
        unpack(file, tmp_path / "out", SMALL, "odd.zip")


@pytest.mark.parametrize(("offset", "bits", "message"), [(6, 1, "encrypted"), (8, 97, "compression")])
def test_encryption_and_unknown_compression_are_refused(
    offset: int, bits: int, message: str, folder: IngestFolder, tmp_path: Path
) -> None:
    content = bytearray(zipped(folder.path))
    for mark, start in ((b"PK\x01\x02", offset + 2), (b"PK\x03\x04", offset)):
        content[content.index(mark) + start] |= bits
    with pytest.raises(DamagedArchiveError, match=message):
        unpack(write(bytes(content), tmp_path / "odd.zip"), tmp_path / "out", SMALL, "odd.zip")


@pytest.mark.parametrize("what", ["cut", "flipped", "no zip", "no table"])
def test_damaged_archive_leaves_no_files(what: str, folder: IngestFolder, tmp_path: Path) -> None:
    content = zipped(folder.path)
    flipped = bytearray(content)
    flipped[200] ^= 0xFF
    (folder.path / "meta" / "esc50.csv").unlink()
    broken = {"cut": content[:-300], "flipped": bytes(flipped), "no zip": b"RIFF" * 9, "no table": zipped(folder.path)}
    file = write(broken[what], tmp_path / "broken.zip")
    with pytest.raises(SourceError, match=r"cannot be unpacked|no meta/esc50\.csv"):
        ingest(str(file), settings(ROOT), tmp_path / "work" / "dataset")
    assert not list((tmp_path / "work").iterdir())


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file or folder"):
        ingest(str(tmp_path / "nowhere.zip"), settings(ROOT), tmp_path / "dataset")


def test_duplicate_member_is_refused(folder: IngestFolder, tmp_path: Path) -> None:
    content = io.BytesIO(zipped(folder.path))
    with zipfile.ZipFile(content, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("audio/1-1-0.wav", b"another")
    file = write(content.getvalue(), tmp_path / "twice.zip")
    with pytest.raises(SourceError, match=r"has 'audio/1-1-0\.wav' twice"):
        unpack(file, tmp_path / "out", SMALL, "twice.zip")


def test_number_of_members_is_limited(folder: IngestFolder, tmp_path: Path) -> None:
    file = write(zipped(folder.path, extra={f"more/{n}": b"" for n in range(5)}), tmp_path / "many.zip")
    with pytest.raises(SourceError, match=r"has 14 members; the limit is 13 \(ingest\.max_source_files\)"):
        unpack(file, tmp_path / "out", SMALL.replace(max_source_files=13), "many.zip")
    unpack(file, tmp_path / "out", SMALL.replace(max_source_files=14), "many.zip")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compression_is_unpacked_and_its_damage_found(method: int, folder: IngestFolder, tmp_path: Path) -> None:
    content = io.BytesIO(zipped(folder.path))
    with zipfile.ZipFile(content, "a", method) as archive:
        archive.writestr("audio/rare.wav", bytes(1000))
    file = write(content.getvalue(), tmp_path / "rare.zip")
    unpack(file, tmp_path / "out", SMALL, "rare.zip")
    assert (tmp_path / "out" / "audio" / "rare.wav").read_bytes() == bytes(1000)
    broken = bytearray(content.getvalue())
    start = broken.index(b"audio/rare.wav") + len(b"audio/rare.wav")
    broken[start + 9 : start + 19] = bytes(10)
    with pytest.raises(DamagedArchiveError, match="cannot be unpacked"):
        unpack(write(bytes(broken), file), tmp_path / "broken", SMALL, "rare.zip")


def test_archive_named_like_the_parent_folder_is_renamed(folder: IngestFolder, tmp_path: Path) -> None:
    file = write(zipped(folder.path), tmp_path / "...zip")
    ingest(str(file), settings(ROOT), tmp_path / "work" / "dataset")
    assert DatasetFolder(tmp_path / "work" / "dataset").record().source == "archive"
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["dataset"]


@examples(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    where=st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=4),
    value=st.integers(0, 255),
    end=st.floats(0.3, 1),
)
def test_any_damage_raises_a_source_error(
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
    file = write(bytes(broken[: int(end * len(broken))]) if end < 0.9 else bytes(broken), place / "a.zip")
    with suppress(SourceError):
        unpack(file, place / "out", SMALL, "a.zip")


def test_negative_offset_is_damage(folder: IngestFolder, tmp_path: Path) -> None:
    content = bytearray(zipped(folder.path))
    start = content.rindex(b"PK\x05\x06") + 16  # offset of the central directory
    content[start : start + 4] = (int.from_bytes(content[start : start + 4], "little") + 10**6).to_bytes(4, "little")
    with pytest.raises(DamagedArchiveError, match=r"cannot be unpacked"):
        unpack(write(bytes(content), tmp_path / "a.zip"), tmp_path / "out", SMALL, "a.zip")


def test_damaged_download_is_downloaded_again(folder: IngestFolder, tmp_path: Path) -> None:
    chosen = settings(ROOT).replace(downloads=str(tmp_path / "downloads"))
    sound = zipped(folder.path)
    with serve(sound[:-300]) as site:
        with pytest.raises(SourceError, match=r"cannot be unpacked") as raised:
            ingest(f"{site.url}?token=secret", chosen, tmp_path / "dataset")
        assert "secret" not in str(raised.value)
        site.content = sound
        assert ingest(f"{site.url}?token=secret", chosen, tmp_path / "dataset").clips == 8
