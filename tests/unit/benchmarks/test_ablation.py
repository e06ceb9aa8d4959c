"""The ablation: it measures what is missing, keeps what it measured, and trusts nothing that was measured otherwise."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
import typer
from helpers.project import ROOT
from typer.testing import CliRunner

from benchmarks import ablation
from benchmarks.ablation import ROWS, Budget, Job

SMALL = Budget(epochs=1, width=0.0625, n_mels=64, hop=1024, precision="fp32")


@pytest.mark.parametrize("row", ROWS)
def test_every_row_changes_what_it_says_and_nothing_else(row: str) -> None:
    settings = SMALL.settings(Job(row, 2, 3))
    recipe, training, front_end = ROWS[row]
    train, plain = settings.train, SMALL.settings(Job(recipe, 2, 3))
    assert (train.recipe, train.fold, train.seed) == (recipe, 2, 3)
    assert (settings != plain) == bool(training or front_end)
    for key, value in training.items():
        block, _, leaf = key.rpartition(".")
        found = getattr(getattr(train, block) if block else train, leaf)
        assert found == (round(value) if key == "epochs" else value)


def test_hits_lie_elsewhere_once_the_recipe_or_the_clips_are_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Job("strong", 2, 3)
    before = job.place(tmp_path, SMALL.settings(job), "ab" * 32)
    assert job.place(tmp_path, SMALL.settings(job), "ab" * 32) == before
    assert job.place(tmp_path, SMALL.settings(job), "cd" * 32) != before
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    shutil.copy(ROOT / "params.yaml", tmp_path)
    changed = tmp_path / "recipes" / "strong.yaml"
    changed.write_text(changed.read_text().replace("label_smoothing: 0.1", "label_smoothing: 0.2"))
    monkeypatch.chdir(tmp_path)
    assert job.place(tmp_path, SMALL.settings(job), "ab" * 32) != before
    monkeypatch.setattr(ablation, "code_digest", lambda package: "other code")
    monkeypatch.chdir(ROOT)
    assert job.place(tmp_path, SMALL.settings(job), "ab" * 32) != before


def test_a_run_goes_on_where_it_was_broken_off(
    demo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ablation, "CACHE", str(tmp_path / "cache"))
    command = typer.Typer()
    command.command()(ablation.main)
    output = tmp_path / "out"
    given = ["--data", str(demo_folder), "--output", str(output), "--rows", "seed,strong", "--subset", "all"]
    given += ["--seeds", "1", "--epochs", "1", "--width", "0.0625", "--precision", "fp32", "--processes", "1"]

    assert CliRunner().invoke(command, given).exit_code == 0
    places = sorted((output / "hits").iterdir())
    times = {place: place.stat().st_mtime_ns for place in places}
    assert len(places) == 10  # two rows, five folds
    table = pd.read_csv(output / "table.csv")
    assert table["row"].tolist() == ["seed", "strong"] and table["clips"].tolist() == [50, 50]

    places[3].unlink()
    assert CliRunner().invoke(command, given).exit_code == 0
    again = {place: place.stat().st_mtime_ns for place in sorted((output / "hits").iterdir())}
    assert again.keys() == times.keys()
    assert [place for place in places if again[place] != times[place]] == [places[3]]
    assert pd.read_csv(output / "table.csv").equals(table)


def test_an_unknown_row_is_refused_with_those_that_there_are(demo_folder: Path, tmp_path: Path) -> None:
    command = typer.Typer()
    command.command()(ablation.main)
    given = ["--data", str(demo_folder), "--output", str(tmp_path / "out"), "--rows", "seed,weak"]
    refused = CliRunner().invoke(command, given)
    assert refused.exit_code == 2 and "there is no row 'weak'" in refused.output
    assert not (tmp_path / "out").exists()
