"""Where clips come from, and the command line that says so."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.ingest import IngestFolder, settings
from helpers.project import ROOT, read_json

from audiocnn.data.clips import split
from audiocnn.data.spectrogram_set import SpectrogramSet
from components.ingest.__main__ import main as command
from components.ingest.sources import SourceError
from components.ingest.step import ingest
from components.spectrograms.step import spectrograms
from pipeline.settings import PipelineSettings


@pytest.fixture
def with_empty_clip(folder: IngestFolder) -> str:
    """A source of which one clip has no bytes."""
    (folder.audio / "1-1-0.wav").write_bytes(b"")
    return folder.write()


class TestSource:
    @pytest.mark.parametrize("source", ["ftp://host/esc50.zip", "gs://bucket/clips", "git:main", "", " "])
    def test_of_an_unknown_kind_is_an_error_that_lists_the_known(self, source: str, output: Path) -> None:
        with pytest.raises(SourceError, match=r"no known kind; known are: .*demo.*folder"):
            ingest(source, settings(ROOT), output)

    @pytest.mark.parametrize("start", ["https://host/", "s3://bucket/", "dvc:"])
    def test_of_signs_that_belong_in_no_address_is_an_error(self, start: str, output: Path) -> None:
        with pytest.raises(SourceError, match=r"signs that belong in no address") as raised:
            ingest(f"{start}x\udcff.zip", settings(ROOT), output)
        assert str(raised.value).isprintable()

    def test_that_is_not_there_is_named(self, output: Path, tmp_path: Path) -> None:
        with pytest.raises(SourceError, match="there is no such folder"):
            ingest(str(tmp_path / "nowhere"), settings(ROOT), output)

    @pytest.mark.parametrize("part", ["meta/esc50.csv", "audio"])
    def test_of_another_layout_is_told_what_is_missing(self, part: str, folder: IngestFolder, output: Path) -> None:
        folder.write()
        (folder.path / part).rename(folder.path / "elsewhere")
        with pytest.raises(SourceError, match=f"holds no {part},"):
            ingest(str(folder.path), settings(ROOT), output)
        assert not list(output.parent.iterdir())


class TestOwnData:
    """Any classes, any number of folds, any length of clip goes the same way."""

    def test_of_three_folds_and_clips_of_many_lengths_becomes_spectrograms_of_one_shape(
        self, tmp_path: Path, tiny: PipelineSettings
    ) -> None:
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
        assert data.spectrograms.shape == (6, 128, 216) and data.classes == ("my boiler", "Nachbars Hündin")
        assert [len(rows) for rows in split(data.clips, 7)] == [4, 2]


class TestCommand:
    def test_refuses_in_a_few_lines_without_a_traceback(self, with_empty_clip: str, output: Path) -> None:
        options = ["--source", with_empty_clip, "--output", str(output)]
        command = [sys.executable, "-W", "ignore", "-m", "components.ingest", *options]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert done.stderr.splitlines()[0].startswith("error: clips is refused: 1 finding")
        assert "Traceback" not in done.stderr

    def test_takes_overrides_and_says_how_far_it_is(self, with_empty_clip: str, output: Path, capsys) -> None:
        command(with_empty_clip, output, ROOT / "params.yaml", ["ingest.policy.empty=quarantine"])
        assert "[ingest] checked 8/8 clips" in capsys.readouterr().out
        assert read_json(output / "dataset.json")["clips"] == 7
