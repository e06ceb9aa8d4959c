"""Manifests: which data sets use which cache entries, and when they last did."""

import json
import time
from collections.abc import Iterable
from typing import Annotated

from pydantic import Field

from audiocnn.strict_model import SettingsError, StrictModel
from mlops.spectrogram_cache import names
from mlops.storage import StorageError, Store

YEAR_10000 = 253_402_300_800.0  # in seconds since 1970; datetime ends there
MIN_DIGEST_LENGTH = 8  # of an abbreviated digest


class Manifest(StrictModel):
    """The use of the cache by one data set with one front end.

    Attributes:
        name: short name of the data set.
        digest: SHA-256 of the data set.
        entries: names of the cache entries.
        used: time of the last use, in seconds since 1970.
    """

    name: str
    digest: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    entries: tuple[str, ...]
    used: Annotated[float, Field(ge=0, lt=YEAR_10000)]

    def matches(self, wanted: str) -> bool:
        """Return whether `wanted` is the data set's name or the beginning of its digest."""
        return wanted == self.name or (len(wanted) >= MIN_DIGEST_LENGTH and self.digest.startswith(wanted))

    def to_bytes(self) -> bytes:
        """Return the content of the file."""
        return json.dumps(self.to_dict()).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> "Manifest":
        """Parse the content of a file. Release 0.1.0 wrote a checksum in a second line, which is ignored.

        Raises:
            ValueError, SettingsError: it is not a manifest.
        """
        return cls.parse(json.loads(content.partition(b"\n")[0]), "manifest")


def write(store: Store, front_end: str, name: str, digest: str, entries: Iterable[str]) -> None:
    """Record that a data set uses these entries now."""
    manifest = Manifest(name=name, digest=digest, entries=tuple(entries), used=time.time())
    store.put(names.manifest(digest, front_end), manifest.to_bytes())


def read(store: Store, files: Iterable[str]) -> tuple[dict[str, Manifest], dict[str, str]]:
    """Read manifests; skip those that have vanished.

    Returns:
        the manifests and the errors of unreadable ones, both by file name.
    """
    manifests: dict[str, Manifest] = {}
    errors: dict[str, str] = {}
    for file in files:
        try:
            content = store.get(file)
            if content is not None:
                manifests[file] = Manifest.from_bytes(content)
        except (ValueError, RecursionError, SettingsError, StorageError) as error:
            errors[file] = str(error).partition("\n")[0]
    return manifests, errors
