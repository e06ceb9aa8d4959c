"""A working directory of their own for tests that write to var/."""

from pathlib import Path

import pytest


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty working directory, in which relative paths such as var/ end up."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
