"""Bounding the cache: what was used longest ago goes first, and what named data sets use stays."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from audiocnn.errors import AudioCNNError
from mlops.spectrogram_cache import manifests, names
from mlops.spectrogram_cache.manifests import Manifest, Manifests
from mlops.storage import Entry, Store, open_store

BATCH = 1000  # entries that are removed between two looks at the manifests


class GcError(AudioCNNError):
    """No cache, a manifest that cannot be read, an unknown data set, or a bound that cannot be kept."""


@dataclass(frozen=True)
class Contents:
    """A store's entries and its manifests; whatever else lies there is nobody's business here."""

    entries: tuple[Entry, ...]
    manifests: Manifests

    @property
    def size(self) -> int:
        """Bytes of all entries."""
        return sum(entry.size for entry in self.entries)


def open_cache(root: str) -> Store:
    """The store at an address where a cache lies already.

    Raises:
        GcError: nothing lies there: a typing error must not look like an empty cache.
        StorageError: it is no address, or a file stands there.
    """
    store = open_store(root)
    if not store.exists():
        raise GcError(f"there is no spectrogram cache at {store.address}: nothing lies there")
    return store


def contents(store: Store) -> Contents:
    """What of a cache lies in the store.

    Raises:
        GcError: much may lie there, but nothing of a cache.
    """
    listed = list(store.list())
    if listed and not any(names.is_own(entry.name) for entry in listed):
        raise GcError(f"{store.address} is no spectrogram cache: it holds {len(listed)} files and none of a cache's")
    known = manifests.read(store, [entry.name for entry in listed if names.is_manifest(entry.name)])
    return Contents(tuple(entry for entry in listed if names.is_entry(entry.name)), known)


def superfluous(found: Contents, max_bytes: int, keep: Collection[str]) -> list[Entry]:
    """The entries to remove so that at most `max_bytes` stay, the ones used longest ago first.

    An entry was used when the latest data set that holds it was; one that no data set holds yet, when it was written.

    Args:
        keep: names or digests of data sets, whose entries all stay, whatever the bound.
    """
    used: dict[str, float] = {}
    for manifest in found.manifests.sound.values():
        for name in manifest.entries:
            used[name] = max(used.get(name, 0.0), manifest.used)
    spared = {
        name for manifest in found.manifests.sound.values() if _is_kept(manifest, keep) for name in manifest.entries
    }
    left, removed = found.size, []
    for entry in sorted(found.entries, key=lambda entry: (used.get(entry.name, entry.modified), entry.name)):
        if left <= max_bytes:
            break
        if entry.name not in spared:
            removed.append(entry)
            left -= entry.size
    return removed


def collect(store: Store, max_bytes: int, keep: Collection[str] = (), dry_run: bool = False) -> tuple[int, int]:
    """Bound the store's size; how many entries went, and their bytes.

    Runs may go on meanwhile. What one writes, and what a data set uses that one notes, after this has looked stays;
    a run that finds an entry missing computes it again.

    Args:
        keep: see `superfluous`.
        dry_run: only tell.
    Raises:
        GcError: a manifest cannot be read, or `keep` names a data set that the cache does not know, before anything is
            removed; or what stays is larger than the bound, after everything else was removed.
    """
    found = contents(store)
    _check(found.manifests)
    for wanted in keep:
        if not any(manifest.is_called(wanted) for manifest in found.manifests.sound.values()):
            known = ", ".join(sorted({manifest.name for manifest in found.manifests.sound.values()})) or "none"
            raise GcError(f"the cache knows no data set {wanted!r}; it knows {known}")
    removed = superfluous(found, max_bytes, keep)
    if not dry_run:
        store.sweep(names.is_own)
        removed = [gone for some in _batches(removed) for gone in _remove(store, some, found, keep)]
        _forget(store, found, {entry.name for entry in found.entries} - {entry.name for entry in removed})
    freed = sum(entry.size for entry in removed)
    if found.size - freed > max_bytes:
        raise GcError(
            f"{found.size - freed} bytes stay, more than the {max_bytes} allowed: the data sets to keep, "
            "or runs that go on, use them; raise --max-size or keep fewer"
        )
    return len(removed), freed


def _batches(entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    return (entries[first : first + BATCH] for first in range(0, len(entries), BATCH))


def _remove(store: Store, some: Sequence[Entry], found: Contents, keep: Collection[str]) -> Sequence[Entry]:
    """Remove those of `some` that nobody has come to use since `found` was looked up; which went."""
    now = _manifests(store)
    _check(now)
    spared = {
        name
        for place, manifest in now.sound.items()
        if manifest != found.manifests.sound.get(place) or _is_kept(manifest, keep)
        for name in manifest.entries
    }
    return store.delete_unchanged([entry for entry in some if entry.name not in spared])


def _forget(store: Store, found: Contents, left: set[str]) -> None:
    """Remove the manifests of which no entry is left, unless they were noted again."""
    listed = _listed(store)
    now = manifests.read(store, [entry.name for entry in listed]).sound
    idle = {
        place
        for place, manifest in now.items()
        if manifest == found.manifests.sound.get(place) and left.isdisjoint(manifest.entries)
    }
    store.delete_unchanged([entry for entry in listed if entry.name in idle])


def _listed(store: Store) -> list[Entry]:
    return [entry for entry in store.list(names.MANIFESTS) if names.is_manifest(entry.name)]


def _manifests(store: Store) -> Manifests:
    return manifests.read(store, [entry.name for entry in _listed(store)])


def _check(found: Manifests) -> None:
    for place, why in found.unreadable.items():
        raise GcError(
            f"nothing more is removed, since what the data set of {place} uses is unknown: {why}; run the step "
            "spectrograms on that data set again, or remove the file"
        )


def _is_kept(manifest: Manifest, keep: Collection[str]) -> bool:
    return any(manifest.is_called(wanted) for wanted in keep)
