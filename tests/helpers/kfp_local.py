"""KFP's local runner for tests of components."""

import sys
from pathlib import Path

import pytest
from kfp import local


def init_kfp_local(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run components as processes of this environment; outputs are written to folder/root.

    KFP splits its command at spaces. The path of the environment may contain some, so it is called through a link.
    """
    (folder / "venv").symlink_to(sys.prefix)
    monkeypatch.setattr(sys, "executable", str(folder / "venv" / "bin" / "python"))
    local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=str(folder / "root"), raise_on_error=True)
