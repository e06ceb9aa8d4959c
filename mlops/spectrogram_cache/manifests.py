"""Manifests: which data sets use which cache entries, and when they last did."""

import json
from typing import Annotated, Self

from pydantic import Field

from audiocnn.strict_model import SettingsError, StrictModel
from mlops.storage import Store


class Manifest(StrictModel):
    """The use of the cache by one data set with one front end.

    Attributes:
        name: short name of the data set.
        used: time of the last use, in seconds since 1970.
    """

    name: str
    digest: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    entries: tuple[str, ...]
    used: Annotated[float, Field(ge=0)]

    def to_bytes(self) -> bytes:
        return json.dumps(self.to_dict()).encode()

    @classmethod
    def read(cls, store: Store, file: str) -> Self | None:
        """Read a manifest; None if it is missing or damaged."""
        try:
            return cls.parse(json.loads(store.get(file) or b""), file)
        except (ValueError, SettingsError):
            return None
