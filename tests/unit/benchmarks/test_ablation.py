"""The ablation: changes of each row, reuse of results only for equal input, continuation of interrupted runs."""

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import typer
from helpers.project import ROOT
from typer.testing import CliRunner

from audiocnn.strict_model import merge
from benchmarks import ablation
from benchmarks.ablation import ROWS, Job
from mlops.command_line import errors_to_exit

COMMAND = typer.Typer()
COMMAND.command()(errors_to_exit()(ablation.main))


def run(*arguments: str) -> Any:
    return CliRunner().invoke(COMMAND, arguments)


@pytest.mark.parametrize("name", ROWS)
def test_a_row_changes_only_the_settings_that_it_names(name: str) -> None:
    row, settings = {"recipe": "strong", **ROWS[name]}, Job(name, 2, 3).settings({})
    assert (settings.recipe, settings.train.fold, settings.train.seed) == (row["recipe"], 2, 3)
    recipe = Job(row["recipe"], 2, 3).settings({})
    assert settings.to_dict() == merge(recipe.to_dict(), row)
    assert (settings == recipe) == (name in ("seed", "strong"))


def test_overrides_apply_to_all_rows() -> None:
    changed = [Job(name, 1, 0).settings({"train": {"epochs": 7, "fold": 3}}).train for name in ROWS]
    assert {(train.epochs, train.test_every, train.fold) for train in changed} == {(7, 7, 1)}


def test_result_files_depend_on_recipe_clips_and_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job("strong", 2, 3)
    original = job.result_file(tmp_path, job.settings({}), "ab" * 32)
    assert job.result_file(tmp_path, job.settings({}), "ab" * 32) == original
    assert job.result_file(tmp_path, job.settings({}), "cd" * 32) != original
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    shutil.copy(ROOT / "params.yaml", tmp_path)
    recipe = tmp_path / "recipes" / "strong.yaml"
    recipe.write_text(recipe.read_text().replace("label_smoothing: 0.1", "label_smoothing: 0.2"))
    monkeypatch.chdir(tmp_path)
    assert job.result_file(tmp_path, job.settings({}), "ab" * 32) != original
    monkeypatch.setattr(ablation, "code_digest", lambda package: "other code")
    monkeypatch.chdir(ROOT)
    assert job.result_file(tmp_path, job.settings({}), "ab" * 32) != original


def test_an_interrupted_run_trains_only_missing_results(
    demo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ablation, "DEFAULT_CACHE", str(tmp_path / "cache"))
    output = tmp_path / "out"
    arguments = ["--data", str(demo_folder), "--output", str(output), "--rows", "seed,strong", "--processes", "1"]
    for override in ("epochs=1", "precision=fp32", "batch_size=16", "architecture.width=0.0625"):
        arguments += ["--set", f"train.{override}"]

    assert run(*arguments).exit_code == 0
    files = sorted((output / "hits").iterdir())
    times = {file: file.stat().st_mtime_ns for file in files}
    assert len(files) == 10  # two rows, five folds
    table = pd.read_csv(output / "table.csv")
    assert table["row"].tolist() == ["seed", "strong"] and table["clips"].tolist() == [50, 50]

    files[3].unlink()
    assert run(*arguments).exit_code == 0
    repeated = {file: file.stat().st_mtime_ns for file in sorted((output / "hits").iterdir())}
    assert repeated.keys() == times.keys()
    assert [file for file in files if repeated[file] != times[file]] == [files[3]]
    assert pd.read_csv(output / "table.csv").equals(table)


def test_an_unknown_row_is_refused(demo_folder: Path, tmp_path: Path) -> None:
    refused = run("--data", str(demo_folder), "--output", str(tmp_path / "out"), "--rows", "seed,weak")
    assert refused.exit_code == 2 and "unknown row 'weak'" in refused.output
    assert not (tmp_path / "out").exists()
