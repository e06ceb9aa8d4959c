"""Eviction: limit the size of the cache. The entries that were used longest ago are removed first."""

from collections.abc import Mapping
from dataclasses import dataclass

from audiocnn.errors import AudioCNNError
from mlops.spectrogram_cache import names
from mlops.spectrogram_cache.manifests import Manifest
from mlops.storage import Entry, Store


class GcError(AudioCNNError):
    """An address without a cache."""


@dataclass(frozen=True)
class CacheContents:
    """Entries of a cache, and manifests by file name."""

    entries: tuple[Entry, ...]
    manifests: Mapping[str, Manifest]

    @property
    def size(self) -> int:
        return sum(entry.size for entry in self.entries)


def read_contents(store: Store) -> CacheContents:
    """List a cache and read its manifests, except damaged ones.

    Raises:
        GcError: the store contains no file of a cache; the address may be mistyped.
    """
    listed = list(store.list())
    entries = tuple(entry for entry in listed if names.is_entry(entry.name))
    files = [entry.name for entry in listed if names.is_manifest(entry.name)]
    if not entries and not files:
        raise GcError(f"there is no spectrogram cache at {store.address}; check the address")
    return CacheContents(entries, {file: manifest for file in files if (manifest := Manifest.read(store, file))})


def select_evictions(contents: CacheContents, max_bytes: int) -> list[Entry]:
    """Select the entries to remove so that at most `max_bytes` remain, those used longest ago first.

    The last use of an entry is that of the latest data set that uses it, or its modification time if there is none.
    """
    last_use: dict[str, float] = {}
    for manifest in contents.manifests.values():
        for name in manifest.entries:
            last_use[name] = max(last_use.get(name, 0.0), manifest.used)
    remaining, evictions = contents.size, []
    for entry in sorted(contents.entries, key=lambda entry: (last_use.get(entry.name, entry.modified), entry.name)):
        if remaining <= max_bytes:
            break
        evictions.append(entry)
        remaining -= entry.size
    return evictions


def collect(store: Store, max_bytes: int, dry_run: bool = False) -> tuple[int, int]:
    """Remove entries until at most `max_bytes` remain; return the number of removed entries and their total bytes.

    Other processes may use the cache meanwhile: a run computes an entry again that it finds missing.

    Raises:
        GcError: there is no cache.
    """
    contents = read_contents(store)
    evictions = select_evictions(contents, max_bytes)
    if not dry_run:
        store.delete(entry.name for entry in evictions)
        remaining = {entry.name for entry in contents.entries} - {entry.name for entry in evictions}
        unused = (file for file, manifest in contents.manifests.items() if remaining.isdisjoint(manifest.entries))
        store.delete(unused)
    return len(evictions), sum(entry.size for entry in evictions)
