"""The compiled pipelines, and a working directory of their own for tests that write to var/."""

from pathlib import Path

import pytest
from helpers.compiled import Graph, read_graph

from pipeline.compile import CROSSVAL, TRAINING


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty working directory, in which relative paths such as var/ end up."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module", params=[TRAINING, CROSSVAL], ids=["training", "crossval"])
def graph(request: pytest.FixtureRequest) -> Graph:
    return read_graph(request.param.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def training() -> Graph:
    return read_graph(TRAINING.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def crossval() -> Graph:
    return read_graph(CROSSVAL.read_text(encoding="utf-8"))
