"""Manifests record which data sets use which entries."""

import json
import time
from pathlib import Path

import pytest

from audiocnn.strict_model import SettingsError
from mlops.spectrogram_cache import manifests, names
from mlops.spectrogram_cache.manifests import Manifest
from mlops.storage import FolderStore

DIGEST = "c" * 64
FRONT_END = "f" * 16
FILE = f"datasets/{'c' * 16}-{FRONT_END}.json"


def entry(number: int) -> str:
    """Return the name of an entry."""
    return names.entry(FRONT_END, f"{number:032x}")


def test_a_manifest_is_read_as_written_and_matched_by_name_or_digest(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    manifests.write(store, FRONT_END, "pets", DIGEST, [entry(1)])
    found, errors = manifests.read(store, [FILE, "datasets/missing.json"])
    assert found.keys() == {FILE} and not errors
    manifest = found[FILE]
    assert manifest.entries == (entry(1),) and time.time() - manifest.used < 60
    assert manifest.matches("pets") and manifest.matches("c" * 8)
    assert not manifest.matches("c" * 7) and not manifest.matches("pet")


def test_a_manifest_of_release_0_1_0_can_be_read() -> None:
    line = json.dumps({"name": "pets", "digest": DIGEST, "entries": [entry(1)], "used": 1795747677.399495})
    manifest = Manifest.from_bytes(f'{line}\n"88808168de6aa75d401490c894329f50"\n'.encode())
    assert manifest == Manifest(name="pets", digest=DIGEST, entries=(entry(1),), used=1795747677.399495)


@pytest.mark.parametrize(
    "change",
    [
        {"name": 5},
        {"digest": 5},
        {"digest": "abc"},
        {"entries": [1]},
        {"entries": "abc"},
        {"used": 1e15},
        {"used": float("nan")},
        {"used": "now"},
        {"more": 1},
    ],
)
def test_an_invalid_manifest_is_refused(change: dict) -> None:
    values = {"name": "pets", "digest": DIGEST, "entries": [entry(1)], "used": 5.0}
    assert Manifest.from_bytes(json.dumps(values).encode()).used == 5.0
    with pytest.raises(SettingsError, match=r"^manifest: "):
        Manifest.from_bytes(json.dumps(values | change).encode())
