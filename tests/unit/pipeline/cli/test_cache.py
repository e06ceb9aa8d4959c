"""`audiocnn cache status` and `audiocnn cache gc`."""

import json
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from components.spectrograms.step import spectrograms
from pipeline.cli import app
from pipeline.settings import PipelineSettings


@pytest.fixture(scope="module")
def cache(dataset: Path, tiny: PipelineSettings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the spectrograms of 50 clips."""
    folder = tmp_path_factory.mktemp("cache")
    spectrograms(dataset, tiny.spectrograms, folder / "spectrograms", str(folder / "cache"))
    return folder / "cache"


def call(cache: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["cache", *arguments, "--cache", str(cache)], catch_exceptions=False)


def test_the_contents_are_shown(cache: Path) -> None:
    shown = " ".join(call(cache, "status").stdout.split())
    assert "50 spectrograms," in shown and "demo" in shown


def test_the_contents_are_printed_as_json(cache: Path) -> None:
    contents = json.loads(call(cache, "status", "--json").stdout)
    (used,) = contents["data_sets"]
    assert (contents["spectrograms"], used["spectrograms"], used["cached"]) == (50, 50, 50)
    assert contents["bytes"] == sum(file.stat().st_size for file in cache.glob("*/*/*"))
    assert used["data_set"] == "demo" and len(used["digest"]) == 64 and used["last_used"].endswith("Z")


def test_what_would_be_removed_is_printed_as_json(cache: Path) -> None:
    freed = json.loads(call(cache, "gc", "--max-size", "0", "--dry-run", "--json").stdout)
    assert (freed["spectrograms"], freed["dry_run"]) == (50, True) and freed["bytes"] > 0
