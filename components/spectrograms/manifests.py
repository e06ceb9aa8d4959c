"""Which data sets use the cache, and when each did last: what bounding its size goes by."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass

from components.stores import Store

FOLDER = "datasets"


@dataclass(frozen=True)
class Manifest:
    """One data set under one front end: its name, digest, its entries' names, and its last use (seconds since 1970)."""

    name: str
    digest: str
    entries: tuple[str, ...]
    used: float

    @property
    def place(self) -> str:
        """Its name in the store: one a data set and front end."""
        front_end = self.entries[0].partition("/")[0] if self.entries else "none"
        return f"{FOLDER}/{self.digest[:16]}-{front_end}.json"

    def is_called(self, name: str) -> bool:
        """Whether somebody who says `name` means this one: its name, or at least eight digits of its digest."""
        return name == self.name or (len(name) >= 8 and self.digest.startswith(name))


def write(store: Store, name: str, digest: str, entries: list[str]) -> None:
    """Note that a data set uses these entries, now."""
    manifest = Manifest(name, digest, tuple(entries), time.time())
    store.put(manifest.place, json.dumps(vars(manifest)).encode())


def read(store: Store, names: list[str]) -> Iterator[Manifest]:
    """The manifests among `names`; a broken one is left out, so that its entries count as nobody's."""
    for place in (name for name in names if name.startswith(f"{FOLDER}/")):
        try:
            found = json.loads(store.get(place) or b"")
            yield Manifest(found["name"], found["digest"], tuple(found["entries"]), float(found["used"]))
        except (ValueError, KeyError, TypeError):
            continue
