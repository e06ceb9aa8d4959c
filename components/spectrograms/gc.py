"""Bounding the cache: what was used longest ago goes first, and what named data sets use stays."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from audiocnn.errors import AudioCNNError
from components.spectrograms import manifests
from components.spectrograms.manifests import Manifest
from components.stores import Entry, Store


class GcError(AudioCNNError):
    """A bound that cannot be kept, or a data set that the cache does not know."""


@dataclass(frozen=True)
class Contents:
    """A store's entries, without the manifests, and its manifests by their place in it."""

    entries: tuple[Entry, ...]
    manifests: Mapping[str, Manifest]

    @property
    def size(self) -> int:
        """Bytes of all entries."""
        return sum(entry.size for entry in self.entries)


def contents(store: Store) -> Contents:
    """What lies in the store."""
    listed = list(store.list())
    known = {manifest.place: manifest for manifest in manifests.read(store, [entry.name for entry in listed])}
    own = f"{manifests.FOLDER}/"
    return Contents(tuple(entry for entry in listed if not entry.name.startswith(own)), known)


def superfluous(found: Contents, max_bytes: int, keep: Collection[str]) -> list[Entry]:
    """The entries to remove so that at most `max_bytes` stay, the ones used longest ago first.

    An entry was used when the latest data set that holds it was; one that no data set holds yet, when it was written.

    Args:
        keep: names or digests of data sets, whose entries all stay, whatever the bound.
    """
    used: dict[str, float] = {}
    for manifest in found.manifests.values():
        for name in manifest.entries:
            used[name] = max(used.get(name, 0.0), manifest.used)
    spared = {
        name
        for manifest in found.manifests.values()
        if any(manifest.is_called(wanted) for wanted in keep)
        for name in manifest.entries
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

    A run that goes on meanwhile finds an entry missing, at worst, and computes it again.

    Args:
        keep: see `superfluous`.
        dry_run: only tell.
    Raises:
        GcError: `keep` names a data set that the cache does not know, before anything is removed; or what it names is
            larger than the bound, after everything else was removed.
    """
    found = contents(store)
    for wanted in keep:
        if not any(manifest.is_called(wanted) for manifest in found.manifests.values()):
            known = ", ".join(sorted({manifest.name for manifest in found.manifests.values()})) or "none"
            raise GcError(f"the cache knows no data set {wanted!r}; it knows {known}")
    removed = superfluous(found, max_bytes, keep)
    freed = sum(entry.size for entry in removed)
    if not dry_run:
        store.sweep()
        store.delete(entry.name for entry in removed)
        gone = {entry.name for entry in removed}
        left = {entry.name for entry in found.entries} - gone
        store.delete(place for place, manifest in found.manifests.items() if left.isdisjoint(manifest.entries))
    if found.size - freed > max_bytes:
        raise GcError(
            f"{found.size - freed} bytes stay, more than the {max_bytes} allowed: the data sets to keep use them; "
            "raise --max-size or keep fewer"
        )
    return len(removed), freed
