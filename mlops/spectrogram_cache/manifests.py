"""Which data sets use the cache, and when each did last: what bounding its size goes by."""

import json
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import xxhash

from mlops.spectrogram_cache import names
from mlops.storage import StorageError, Store

_LATEST = 253_402_300_800.0  # the year 10,000, in seconds since 1970


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
        return names.manifest(self.digest, self.entries[0].partition("/")[0] if self.entries else "none")

    def is_called(self, name: str) -> bool:
        """Whether somebody who says `name` means this one: its name, or at least eight digits of its digest."""
        return name == self.name or (len(name) >= 8 and self.digest.startswith(name))

    def to_bytes(self) -> bytes:
        """A line of JSON, and its checksum as another: one flipped bit would leave an entry without protection."""
        body = json.dumps(vars(self)).encode()
        return b'%b\n"%b"\n' % (body, _checksum(body))

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """From `to_bytes`.

        Raises:
            ValueError: it is not what `to_bytes` has written.
        """
        body, _, checksum = content.partition(b"\n")
        if checksum != b'"%b"\n' % _checksum(body):
            raise ValueError("it does not fit its checksum")
        found = json.loads(body)
        if not isinstance(found, dict) or found.keys() != cls.__annotations__.keys():
            raise ValueError("it has other keys than a manifest")
        name, digest, entries, used = (found[key] for key in cls.__annotations__)
        if not isinstance(name, str) or not isinstance(digest, str) or not re.fullmatch(r"[0-9a-f]{64}", digest):
            raise ValueError("its name or digest is none")
        if not isinstance(entries, list) or not all(isinstance(one, str) and names.is_entry(one) for one in entries):
            raise ValueError("its entries are none")
        if not isinstance(used, float) or not 0 <= used < _LATEST:
            raise ValueError("its last use is no point in time")
        return cls(name, digest, tuple(entries), used)


@dataclass(frozen=True)
class Manifests:
    """By their places in the store: those that can be read, and what is wrong with the others."""

    sound: dict[str, Manifest]
    unreadable: dict[str, str]


def write(store: Store, name: str, digest: str, entries: list[str]) -> None:
    """Note that a data set uses these entries, now."""
    manifest = Manifest(name, digest, tuple(entries), time.time())
    store.put(manifest.place, manifest.to_bytes())


def read(store: Store, places: Iterable[str]) -> Manifests:
    """The manifests at these places; one that vanishes meanwhile is left out."""
    found = Manifests({}, {})
    for place in places:
        try:
            content = store.get(place)
            if content is not None:
                found.sound[place] = Manifest.parse(content)
        except (ValueError, StorageError) as error:
            found.unreadable[place] = str(error)
    return found


def _checksum(body: bytes) -> bytes:
    return xxhash.xxh3_128_hexdigest(body).encode()
