"""Eviction: limit the size of the cache. The entries that were used longest ago are removed first."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from audiocnn.errors import AudioCNNError
from mlops.spectrogram_cache import manifests, names
from mlops.spectrogram_cache.manifests import Manifest
from mlops.storage import Entry, Store


class GcError(AudioCNNError):
    """A missing cache, an unreadable manifest, an unknown data set, or a size that cannot be reached."""


@dataclass(frozen=True)
class CacheContents:
    """Entries and manifests of a cache; the latter, and the errors of unreadable ones, by file name."""

    entries: tuple[Entry, ...]
    manifests: Mapping[str, Manifest]
    unreadable: Mapping[str, str]

    @property
    def size(self) -> int:
        """Total size of the entries in bytes."""
        return sum(entry.size for entry in self.entries)


def read_contents(store: Store) -> CacheContents:
    """List a cache and read its manifests.

    Raises:
        GcError: the store contains no file of a cache; the address may be mistyped.
    """
    listed = [entry for entry in store.list() if names.is_own(entry.name)]
    if not listed:
        raise GcError(f"there is no spectrogram cache at {store.address}; check the address")
    known, unreadable = manifests.read(store, (entry.name for entry in listed if names.is_manifest(entry.name)))
    return CacheContents(tuple(entry for entry in listed if names.is_entry(entry.name)), known, unreadable)


def select_evictions(contents: CacheContents, max_bytes: int, keep: Collection[str]) -> list[Entry]:
    """Select the entries to remove so that at most `max_bytes` remain, those used longest ago first.

    The last use of an entry is that of the latest data set that uses it, or its modification time if there is none.

    Args:
        keep: names or digests of data sets, whose entries are never selected.
    """
    last_use: dict[str, float] = {}
    for manifest in contents.manifests.values():
        for name in manifest.entries:
            last_use[name] = max(last_use.get(name, 0.0), manifest.used)
    protected = _entries(manifest for manifest in contents.manifests.values() if any(map(manifest.matches, keep)))
    remaining, evictions = contents.size, []
    for entry in sorted(contents.entries, key=lambda entry: (last_use.get(entry.name, entry.modified), entry.name)):
        if remaining <= max_bytes:
            break
        if entry.name not in protected:
            evictions.append(entry)
            remaining -= entry.size
    return evictions


def collect(store: Store, max_bytes: int, keep: Collection[str] = (), dry_run: bool = False) -> tuple[int, int]:
    """Remove entries until at most `max_bytes` remain; return the number of removed entries and their total bytes.

    Other processes may use the cache meanwhile: entries that they add, and entries of manifests that they write, are
    kept. A run recomputes an entry that it finds missing.

    Args:
        keep: names or digests of data sets, whose entries are kept.
        dry_run: only report what would be removed.
    Raises:
        GcError: before anything is removed, if a manifest is unreadable or `keep` names an unknown data set; at the
            end, if more than `max_bytes` remain.
    """
    contents = read_contents(store)
    _require_readable(contents.unreadable)
    for wanted in keep:
        if not any(manifest.matches(wanted) for manifest in contents.manifests.values()):
            known = ", ".join(sorted({manifest.name for manifest in contents.manifests.values()})) or "none"
            raise GcError(f"unknown data set {wanted!r}; the data sets in the cache are: {known}")
    evictions = select_evictions(contents, max_bytes, keep)
    if not dry_run:
        store.delete_leftovers(names.is_own)
        evictions = _remove(store, contents, evictions)
    freed = sum(entry.size for entry in evictions)
    if contents.size - freed > max_bytes:
        raise GcError(
            f"{contents.size - freed} bytes remain, more than the allowed {max_bytes}: data sets to keep or current "
            "runs use them; increase --max-size or keep fewer data sets"
        )
    return len(evictions), freed


def _remove(store: Store, contents: CacheContents, evictions: Iterable[Entry]) -> list[Entry]:
    """Remove entries, then manifests without entries; keep what runs have come to use since `contents` was read."""
    changed = _changed_manifests(store, contents)
    protected = _entries(changed.values())
    removed = [entry for entry in evictions if entry.name not in protected]
    store.delete(entry.name for entry in removed)

    remaining = {entry.name for entry in contents.entries} - {entry.name for entry in removed}
    orphans = {file for file, manifest in contents.manifests.items() if remaining.isdisjoint(manifest.entries)}
    store.delete(orphans - _changed_manifests(store, contents).keys())
    return removed


def _changed_manifests(store: Store, contents: CacheContents) -> dict[str, Manifest]:
    files = (entry.name for entry in store.list(names.MANIFESTS) if names.is_manifest(entry.name))
    current, unreadable = manifests.read(store, files)
    _require_readable(unreadable)
    return {file: manifest for file, manifest in current.items() if manifest != contents.manifests.get(file)}


def _require_readable(unreadable: Mapping[str, str]) -> None:
    for file, error in unreadable.items():
        raise GcError(
            f"eviction stops, because {file} is unreadable and may list entries to keep: {error}; run the step "
            "spectrograms on that data set again, or remove the file"
        )


def _entries(of: Iterable[Manifest]) -> set[str]:
    return {name for manifest in of for name in manifest.entries}
