"""The committed files that Kubeflow reads."""

import shutil
from pathlib import Path

import pytest
from helpers.project import ROOT
from typer.testing import CliRunner

from pipeline import compile as compiling
from pipeline.cli import app


def test_the_committed_files_are_what_the_sources_compile_to() -> None:
    assert compiling.stale() == [], "run `make compile` and commit"


def test_a_stale_a_missing_and_a_foreign_file_are_named(tmp_path: Path) -> None:
    shutil.copytree(compiling.COMPILED, tmp_path, dirs_exist_ok=True)
    (tmp_path / "old.yaml").write_text("left behind")
    training = tmp_path / "training.yaml"
    training.write_text(training.read_text().replace("audiocnn-pipeline:", "other:"))
    assert compiling.stale(tmp_path) == ["old.yaml", "training.yaml"]
    training.unlink()
    assert compiling.stale(tmp_path) == ["old.yaml", "training.yaml"]


def test_no_path_of_a_machine_is_compiled_in() -> None:
    for path in compiling.COMPILED.glob("*.yaml"):
        assert str(ROOT) not in path.read_text() and "/home/" not in path.read_text()


def test_the_command_compiles(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(compiling.compile_all, "__defaults__", (tmp_path,))
    assert CliRunner().invoke(app, ["compile"]).exit_code == 0
    assert (tmp_path / "training.yaml").read_bytes() == (compiling.COMPILED / "training.yaml").read_bytes()
