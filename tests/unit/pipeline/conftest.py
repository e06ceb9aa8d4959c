"""Toy pipelines, and a working folder of their own for what a run writes."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def toys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The compiled toy pipelines by name."""
    from helpers.toy_pipelines import compile_to

    return compile_to(tmp_path_factory.mktemp("toys"))


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder: relative paths such as var/ lead into it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
