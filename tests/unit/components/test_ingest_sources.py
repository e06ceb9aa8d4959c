"""Parsing of sources, data sets of users, and the command line."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.ingest import IngestFolder, ingest, settings
from helpers.project import ROOT

from audiocnn.data.clips import split
from audiocnn.data.spectrogram_set import SpectrogramSet
from components.ingest.__main__ import main as command
from components.ingest.sources import SourceError
from components.spectrograms.step import spectrograms
from mlops.artifacts import DatasetFolder
from pipeline.settings import PipelineSettings


@pytest.fixture
def with_empty_clip(folder: IngestFolder) -> str:
    """A source in which one clip is an empty file."""
    (folder.audio / "1-1-0.wav").write_bytes(b"")
    return folder.write()


class TestSource:
    @pytest.mark.parametrize("source", ["ftp://host/esc50.zip", "gs://bucket/clips", "git:main", "", " "])
    def test_unknown_source_lists_the_kinds(self, source: str, output: Path) -> None:
        with pytest.raises(SourceError, match=r"is unknown; expected one of: .*demo.*folder"):
            ingest(source, settings(ROOT), output)

    @pytest.mark.parametrize("start", ["https://host/", "s3://bucket/", "dvc:"])
    def test_url_with_unprintable_characters_is_refused(self, start: str, output: Path) -> None:
        with pytest.raises(SourceError, match="percent-encode them") as raised:
            ingest(f"{start}x\udcff.zip", settings(ROOT), output)
        assert str(raised.value).isprintable()

    @pytest.mark.parametrize("name", ["my clips (1)", "#a?b%20", """it's "q" $HOME""", "é 🐸", "-n"])
    def test_a_folder_and_a_zip_may_have_any_name(
        self, name: str, folder: IngestFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder.write()
        expected = ingest(str(folder.path), settings(ROOT), tmp_path / "expected")
        place = tmp_path / name
        Path(shutil.make_archive(str(tmp_path / "archive"), "zip", folder.path)).rename(f"{place}.zip")
        folder.path.rename(place)
        monkeypatch.chdir(tmp_path)
        for number, source in enumerate((name, str(place), f"{name}.zip", f"{place}.zip")):
            assert ingest(source, settings(ROOT), tmp_path / f"dataset{number}") == expected

    def test_missing_path_is_named(self, output: Path, tmp_path: Path) -> None:
        with pytest.raises(SourceError, match="no such file or folder"):
            ingest(str(tmp_path / "nowhere"), settings(ROOT), output)

    @pytest.mark.parametrize("part", ["meta/esc50.csv", "audio"])
    def test_missing_part_of_the_layout_is_named(self, part: str, folder: IngestFolder, output: Path) -> None:
        folder.write()
        (folder.path / part).rename(folder.path / "elsewhere")
        with pytest.raises(SourceError, match=rf"is not a data set: {part} .* is missing"):
            ingest(str(folder.path), settings(ROOT), output)
        assert not list(output.parent.iterdir())


class TestOwnData:
    """Data sets with other classes, folds and lengths than ESC-50."""

    def test_clips_of_any_length_give_spectrograms_of_one_shape(self, tmp_path: Path, tiny: PipelineSettings) -> None:
        own = IngestFolder(tmp_path / "mine")
        own.rows.clear()
        for file in own.audio.iterdir():
            file.unlink()
        for fold in (1, 2, 7):
            for target, category in ((3, "my boiler"), (900, "Nachbars Hündin")):
                own.add(f"{category} {fold}.wav", fold, target, category)
                samples = np.random.default_rng(fold).standard_normal(8_000 * fold * fold // 2) * 0.1
                own.sound(f"{category} {fold}.wav", samples)
        few = settings(ROOT).replace(min_clips_per_class=1)
        assert ingest(own.write(), few, tmp_path / "dataset").classes == 2
        spectrograms(tmp_path / "dataset", tiny.spectrograms, tmp_path / "spectrograms", str(tmp_path / "cache"))
        data = SpectrogramSet.open(tmp_path / "spectrograms")
        assert data.spectrograms.shape == (6, tiny.spectrograms.n_mels, tiny.spectrograms.frames)
        assert data.classes == ("my boiler", "Nachbars Hündin")
        assert [len(rows) for rows in split(data.clips, 7)] == [4, 2]


class TestCommand:
    def test_refusal_is_an_error_message_without_traceback(self, with_empty_clip: str, output: Path) -> None:
        options = ["--source", with_empty_clip, "--output", str(output)]
        command = [sys.executable, "-W", "ignore", "-m", "components.ingest", *options]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert done.stderr.splitlines()[0].startswith("error: data set clips is refused: 1 error")
        assert "Traceback" not in done.stderr

    def test_overrides_are_applied_and_progress_is_printed(self, with_empty_clip: str, output: Path, capsys) -> None:
        command(with_empty_clip, output, ROOT / "params.yaml", ["ingest.policy.empty=quarantine"])
        assert "[ingest] checked 8/8 clips" in capsys.readouterr().out
        assert DatasetFolder(output).record().clips == 7
