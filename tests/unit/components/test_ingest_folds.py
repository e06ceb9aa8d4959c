"""Folds of a source before it is fetched, and early checks of local paths."""

import csv
import io
import os
import tempfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audiocnn.synthetic.dataset import FOLDS
from components.ingest.sources import SourceError, esc50, parse_source
from components.ingest.sources.layout import folds_in_table

TABLE = "\ufefffilename,fold\na.wav,1\nb.wav,10\nc.wav,4\nd.wav,4\n"


def known_folds(source: str) -> list[int]:
    return parse_source(source).folds()


def require_exists(source: str) -> None:
    parse_source(source).require_exists()


def write_zip(path: Path, members: dict[str, str]) -> str:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, text in members.items():
            opened.writestr(name, text)
    return str(path)


@given(st.lists(st.integers(0, 10**9)), st.sampled_from(["\n", "\r\n"]))
def test_folds_of_a_table_are_sorted_and_unique(folds: list[int], newline: str) -> None:
    table = io.StringIO(newline="")
    csv.writer(table, lineterminator=newline).writerows([["fold", "filename"], *([fold, "a,b.wav"] for fold in folds)])
    table.seek(0)
    assert folds_in_table(table) == sorted(set(folds))


@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda text: f"fold\n{text}".encode())))
def test_invalid_table_never_raises(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "meta").mkdir()
        (Path(folder) / "meta" / "esc50.csv").write_bytes(content)
        assert all(fold >= 0 for fold in known_folds(folder))
        with zipfile.ZipFile(Path(folder) / "x.zip", "w") as opened:
            opened.writestr("meta/esc50.csv", content)
        assert known_folds(f"{folder}/x.zip") == known_folds(folder)


@pytest.mark.parametrize("root", ["", "ESC-50-master/"])
def test_folds_are_read_from_a_zip_file(root: str, tmp_path: Path) -> None:
    assert known_folds(write_zip(tmp_path / "x.zip", {f"{root}meta/esc50.csv": TABLE})) == [1, 4, 10]


def test_invalid_or_ambiguous_zip_file_has_no_folds(tmp_path: Path) -> None:
    (tmp_path / "none.zip").write_bytes(b"PK\x03\x04 cut")
    two = write_zip(tmp_path / "two.zip", {"a/meta/esc50.csv": TABLE, "b/meta/esc50.csv": TABLE})
    for source in (str(tmp_path / "none.zip"), str(tmp_path / "missing.zip"), two):
        assert known_folds(source) == []


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_zip_file_with_other_compression_is_read(method: int, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "rare.zip", "w", method) as opened:
        opened.writestr("meta/esc50.csv", TABLE)
    assert known_folds(str(tmp_path / "rare.zip")) == [1, 4, 10]


def test_named_pipe_does_not_block(tmp_path: Path) -> None:
    (tmp_path / "meta").mkdir()
    os.mkfifo(tmp_path / "meta" / "esc50.csv")
    os.mkfifo(tmp_path / "x.zip")
    assert known_folds(str(tmp_path)) == known_folds(str(tmp_path / "x.zip")) == []
    with pytest.raises(SourceError, match=r"x\.zip' is neither a folder nor a \.zip file"):
        require_exists(str(tmp_path / "x.zip"))


def test_folds_of_esc50_match_its_file_names() -> None:
    folds = {int(Path(path).name.split("-")[0]) for path in esc50.read_checksums() if path.startswith("audio/")}
    assert known_folds("esc50") == sorted(folds) == known_folds("demo") == list(FOLDS)


@pytest.mark.parametrize("source", ["s3://bucket/clips", "https://host/clips.zip", "dvc", "dvc:v1", "nowhere"])
def test_remote_sources_have_no_folds(source: str) -> None:
    assert known_folds(source) == []


class TestLocalPath:
    @pytest.mark.parametrize("name", ["nowhere", "nowhere.zip", "~unknown-user/x", "~unknown-user/x.zip"])
    def test_missing_path_is_refused(self, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        with pytest.raises(SourceError, match=f"{name}': no such file or folder"):
            require_exists(name)
        assert known_folds(name) == []

    def test_other_file_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "clips.csv").touch()
        with pytest.raises(SourceError, match=r"clips\.csv' is neither a folder nor a \.zip file"):
            require_exists(str(tmp_path / "clips.csv"))

    def test_folder_without_the_layout_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(SourceError, match=r"meta/esc50\.csv .* is missing"):
            require_exists(str(tmp_path))
        (tmp_path / "meta").mkdir()
        (tmp_path / "meta" / "esc50.csv").write_text(TABLE)
        with pytest.raises(SourceError, match=r"audio .* is missing"):
            require_exists(str(tmp_path))
        (tmp_path / "audio").mkdir()
        require_exists(str(tmp_path))

    @pytest.mark.parametrize("source", ["demo", "esc50", "s3://bucket/clips", "https://host/x.zip"])
    def test_remote_source_is_not_checked(self, source: str) -> None:
        require_exists(source)
