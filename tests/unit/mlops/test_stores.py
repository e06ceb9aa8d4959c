"""Named bytes in a folder."""

import os
from pathlib import Path

import pytest

from mlops import stores


def test_a_file_is_read_whole_however_little_one_call_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, read = stores.FolderStore(tmp_path), os.read
    store.put("state.pt", bytes(range(256)))
    monkeypatch.setattr(stores.os, "read", lambda file, size: read(file, min(size, 100)))  # Linux: 2 GiB at most
    assert store.get("state.pt") == bytes(range(256))
