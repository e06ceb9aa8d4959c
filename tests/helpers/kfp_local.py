"""KFP's local runner for tests of components, and the parameters that they take."""

import sys
from pathlib import Path
from typing import Any

import pytest
from kfp import local

from mlops.run_parameters import KEYS
from pipeline.settings import PipelineSettings


def init_kfp_local(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run components as processes of this environment; outputs are written to folder/root.

    KFP splits its command at spaces. The path of the environment may contain some, so it is called through a link.
    """
    (folder / "venv").symlink_to(sys.prefix)
    monkeypatch.setattr(sys, "executable", str(folder / "venv" / "bin" / "python"))
    local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=str(folder / "root"), raise_on_error=True)


def overrides_of(settings: PipelineSettings) -> dict[str, Any]:
    """Return all settings as overrides, without the keys that parameters of their own set.

    Settings that are null are left out too: kfp.local accepts no null in a parameter.
    """
    overrides = settings.to_dict()
    del overrides["recipe"]
    for key in KEYS.values():
        block, name = key.split(".")
        del overrides[block][name]
    blocks = {name: block for name, block in overrides.items() if isinstance(block, dict)}
    return {name: {key: value for key, value in block.items() if value is not None} for name, block in blocks.items()}
