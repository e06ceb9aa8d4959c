"""Which data sets use the cache: read as it was written, or not at all."""

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops.spectrogram_cache import eviction as gc
from mlops.spectrogram_cache import manifests, names
from mlops.spectrogram_cache.manifests import Manifest
from mlops.storage import FolderStore

OLD = "a" * 64


def entry(number: int) -> str:
    """The name of one entry of many."""
    return names.entry("f" * 16, f"{number:032x}")


@given(bit=st.integers(min_value=0))
def test_one_flipped_bit_is_noticed(bit: int) -> None:
    whole = Manifest("pets", OLD, (entry(1), entry(2)), 5.0).to_bytes()
    damaged = bytearray(whole)
    damaged[bit // 8 % len(whole)] ^= 1 << bit % 8
    with pytest.raises(ValueError, match="checksum"):
        Manifest.parse(bytes(damaged))


@pytest.mark.parametrize(
    "fields",
    [
        {"name": 5},
        {"digest": 5},
        {"digest": "abc"},
        {"entries": [1]},
        {"entries": "abc"},
        {"entries": ["../../etc/passwd"]},
        {"used": 1e15},
        {"used": float("nan")},
        {"used": "now"},
        {"more": 1},
    ],
)
def test_one_of_another_kind_is_refused_though_its_checksum_fits(fields: dict) -> None:
    class Other(Manifest): ...

    other = Other("pets", OLD, (entry(1),), 5.0)
    other.__dict__.update(fields)
    with pytest.raises(ValueError, match=r"^it"):
        Manifest.parse(other.to_bytes())


def test_a_manifest_is_read_as_it_was_written_and_found_by_its_name_or_digest(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    manifests.write(store, "pets", "c" * 64, [entry(1)])
    ((place, manifest),) = gc.contents(store).manifests.sound.items()
    assert place == manifest.place and manifest.entries == (entry(1),) and time.time() - manifest.used < 60
    assert manifest.is_called("pets") and manifest.is_called("c" * 8)
    assert not manifest.is_called("c" * 7) and not manifest.is_called("pet")
