"""The folds that are known before anything is fetched: those of the table, wherever it lies, and never an error."""

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
from components.ingest import sources
from components.ingest.sources import SourceError, archive, official
from components.ingest.sources.folds import folds_in

TABLE = "\ufefffilename,fold\na.wav,1\nb.wav,10\nc.wav,4\nd.wav,4\n"


def packed(path: Path, members: dict[str, str]) -> str:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, text in members.items():
            opened.writestr(name, text)
    return str(path)


@given(st.lists(st.integers(0, 10**9)), st.sampled_from(["\n", "\r\n"]))
def test_they_are_those_of_the_table_in_order(folds: list[int], newline: str) -> None:
    table = io.StringIO(newline="")
    csv.writer(table, lineterminator=newline).writerows([["fold", "filename"], *([fold, "a,b.wav"] for fold in folds)])
    table.seek(0)
    assert folds_in(table) == sorted(set(folds))


@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda text: f"fold\n{text}".encode())))
def test_no_table_breaks_the_look_into_it(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "meta").mkdir()
        (Path(folder) / "meta" / "esc50.csv").write_bytes(content)
        assert all(fold >= 0 for fold in sources.known_folds(folder))
        with zipfile.ZipFile(Path(folder) / "x.zip", "w") as opened:
            opened.writestr("meta/esc50.csv", content)
        assert sources.known_folds(f"{folder}/x.zip") == sources.known_folds(folder)


@pytest.mark.parametrize("root", ["", "ESC-50-master/"])
def test_a_zip_is_looked_into(root: str, tmp_path: Path) -> None:
    assert sources.known_folds(packed(tmp_path / "x.zip", {f"{root}meta/esc50.csv": TABLE})) == [1, 4, 10]


def test_a_zip_that_is_none_or_not_clear_or_too_large_has_no_known_folds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "none.zip").write_bytes(b"PK\x03\x04 cut")
    two = packed(tmp_path / "two.zip", {"a/meta/esc50.csv": TABLE, "b/meta/esc50.csv": TABLE})
    one = packed(tmp_path / "one.zip", {"meta/esc50.csv": TABLE})
    monkeypatch.setattr(archive, "LONGEST_TABLE", len(TABLE.encode()) - 1)
    for source in (str(tmp_path / "none.zip"), str(tmp_path / "missing.zip"), two, one):
        assert sources.known_folds(source) == []


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_what_ingest_would_not_unpack_is_not_looked_into(method: int, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "rare.zip", "w", method) as opened:
        opened.writestr("meta/esc50.csv", TABLE)
    assert sources.known_folds(str(tmp_path / "rare.zip")) == []


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "meta").mkdir()
    os.mkfifo(tmp_path / "meta" / "esc50.csv")
    os.mkfifo(tmp_path / "x.zip")
    assert sources.known_folds(str(tmp_path)) == sources.known_folds(str(tmp_path / "x.zip")) == []
    with pytest.raises(SourceError, match=r"x\.zip' is neither a folder nor a \.zip file"):
        sources.require_there(str(tmp_path / "x.zip"))


def test_those_of_the_official_release_are_in_its_files_names() -> None:
    named = {int(Path(path).name.split("-")[0]) for path in official.release() if path.startswith("audio/")}
    assert sources.known_folds("esc50") == sorted(named) == sources.known_folds("demo") == list(FOLDS)


@pytest.mark.parametrize("source", ["s3://bucket/clips", "https://host/clips.zip", "dvc", "dvc:v1", "nowhere"])
def test_what_has_to_be_fetched_first_has_none(source: str) -> None:
    assert sources.known_folds(source) == []


class TestAPathOnThisMachine:
    @pytest.mark.parametrize("name", ["nowhere", "nowhere.zip", "~nobody-of-that-name/x", "~nobody-of-that-name/x.zip"])
    def test_that_is_not_there_is_told_at_once(
        self, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        with pytest.raises(SourceError, match=f"{name}': there is no such file or folder"):
            sources.require_there(name)
        assert sources.known_folds(name) == []

    def test_that_is_another_file_is_told_at_once(self, tmp_path: Path) -> None:
        (tmp_path / "clips.csv").touch()
        with pytest.raises(SourceError, match=r"clips\.csv' is neither a folder nor a \.zip file"):
            sources.require_there(str(tmp_path / "clips.csv"))

    def test_that_is_no_data_set_is_told_at_once(self, tmp_path: Path) -> None:
        with pytest.raises(SourceError, match=r"holds no meta/esc50\.csv"):
            sources.require_there(str(tmp_path))
        (tmp_path / "meta").mkdir()
        (tmp_path / "meta" / "esc50.csv").write_text(TABLE)
        with pytest.raises(SourceError, match="holds no audio"):
            sources.require_there(str(tmp_path))
        (tmp_path / "audio").mkdir()
        sources.require_there(str(tmp_path))

    @pytest.mark.parametrize("source", ["demo", "esc50", "s3://bucket/clips", "https://host/x.zip", "", "ftp://host"])
    def test_that_is_none_is_left_to_ingest(self, source: str) -> None:
        sources.require_there(source)
