"""Where clips come from, and the command line that says so."""

import subprocess
import sys
from pathlib import Path

import pytest
from ingest_support import IngestFolder, settings
from support import ROOT, read_json

from components.ingest.__main__ import main as command
from components.ingest.sources import SourceError
from components.ingest.step import ingest


@pytest.fixture
def folder(tmp_path: Path) -> IngestFolder:
    return IngestFolder(tmp_path / "clips")


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "work" / "dataset"


@pytest.fixture
def with_empty_clip(folder: IngestFolder) -> str:
    """A source of which one clip has no bytes."""
    (folder.audio / "1-1-0.wav").write_bytes(b"")
    return folder.write()


class TestSource:
    @pytest.mark.parametrize("source", ["s3://bucket/clips", "https://host/esc50.zip", "dvc:main", "", " "])
    def test_of_an_unknown_kind_is_an_error_that_lists_the_known(self, source: str, output: Path) -> None:
        with pytest.raises(SourceError, match=r"no known kind; known are: .*demo.*folder"):
            ingest(source, settings(ROOT), output)

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
