"""Manifests record which data sets use which entries."""

import json
from pathlib import Path

import pytest

from mlops.spectrogram_cache import names
from mlops.spectrogram_cache.manifests import Manifest
from mlops.storage import FolderStore

FILE = names.manifest("c" * 64, "f" * 16)
VALUES = {"name": "pets", "digest": "c" * 64, "entries": [names.entry("f" * 16, "0" * 32)], "used": 1795747677.399495}
EXPECTED = Manifest(name="pets", digest="c" * 64, entries=tuple(VALUES["entries"]), used=1795747677.399495)


def test_a_manifest_is_read_as_written(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    assert Manifest.read(store, FILE) is None
    store.put(FILE, EXPECTED.to_bytes())
    assert Manifest.read(store, FILE) == EXPECTED


@pytest.mark.parametrize(
    "change",
    [
        {"name": 5},
        {"digest": 5},
        {"digest": "abc"},
        {"entries": [1]},
        {"entries": "abc"},
        {"used": float("nan")},
        {"used": "now"},
        {"more": 1},
    ],
)
def test_an_invalid_manifest_is_ignored(change: dict, tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.put(FILE, json.dumps(VALUES | change).encode())
    assert Manifest.read(store, FILE) is None
