"""A content-addressed cache of spectrograms: by the clip's MD5, the settings and the front end's version."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from audiocnn.config import SpectrogramSettings
from audiocnn.errors import AudioCNNError
from audiocnn.features import FRONT_END_VERSION
from mlops.spectrogram_cache import manifests, names
from mlops.storage import StorageError, Store

_FORMAT = 2  # of an entry's bytes; another one lies in another folder
_CHECKSUM = 16  # bytes of XXH3 after the array


class CacheError(AudioCNNError):
    """A cache that takes no entries, where they are all that the work is for."""


class SpectrogramCache:
    """Entries of one front end in a store, each on its own, so that any number of processes can fill it.

    An entry is the raw little-endian float16 array (n_mels, frames) and its checksum; one that was cut or flipped
    counts as missing. Neither the checksum nor the MD5, which names content that ingest has read, guards against
    attacks: whoever can write to the cache is trusted.

    Args:
        must_store: an entry that cannot be stored is a CacheError; else it is told once and done without.
    """

    def __init__(self, store: Store, settings: SpectrogramSettings, must_store: bool = False) -> None:
        self.store = store
        self.shape = (settings.n_mels, settings.frames)
        self._bytes = 2 * settings.n_mels * settings.frames
        key = json.dumps({"front_end": FRONT_END_VERSION, "format": _FORMAT, **settings.to_dict()}, sort_keys=True)
        self.folder = hashlib.sha256(key.encode()).hexdigest()[:16]
        self._must_store = must_store
        self._writable = True

    def get(self, md5: str) -> npt.NDArray[np.float16] | None:
        """The entry, float16 (n_mels, frames), or None where there is no sound one."""
        return next(self.get_many([md5]))

    def get_many(self, md5s: Iterable[str]) -> Iterator[npt.NDArray[np.float16] | None]:
        """`get` of each, in order.

        Raises:
            StorageError, OSError: the store cannot be read at all.
        """
        return map(self._parse, self.store.get_many(map(self.name, md5s)))

    def put(self, md5: str, spectrogram: npt.NDArray[np.float16]) -> None:
        """Store an entry, float16 (n_mels, frames).

        Raises:
            CacheError: the store takes none, and must.
        """
        if spectrogram.shape != self.shape or spectrogram.dtype != np.float16:
            raise ValueError(f"expected float16 {self.shape}, found {spectrogram.dtype} {spectrogram.shape}")
        body = spectrogram.astype("<f2").tobytes()
        self._try(self.store.put, self.name(md5), body + _checksum(body))

    def flush(self) -> None:
        """Wait for puts that are under way."""
        self._try(self.store.flush)

    def note(self, name: str, digest: str, md5s: Iterable[str]) -> None:
        """Write down that a data set uses these entries, and wait until that is done."""
        self._try(manifests.write, self.store, name, digest, [self.name(md5) for md5 in md5s])
        self.flush()

    def name(self, md5: str) -> str:
        """The entry's name in the store."""
        return names.entry(self.folder, md5)

    def _try(self, write: Any, *arguments: Any) -> None:
        if not self._writable:
            return
        try:
            write(*arguments)
        except (OSError, StorageError) as error:
            if self._must_store:
                raise CacheError(
                    f"{self.store.address} takes no entries, and this run is for nothing else: {error}; "
                    "make room and see that it can be written, or name another cache"
                ) from error
            self._writable = False
            print(f"[spectrograms] the cache takes no more entries, going on without: {error}", flush=True)

    def _parse(self, content: bytes | None) -> npt.NDArray[np.float16] | None:
        if content is None or len(content) != self._bytes + _CHECKSUM:
            return None
        body = memoryview(content)[: self._bytes]
        if _checksum(body) != content[self._bytes :]:
            return None
        return np.frombuffer(body, "<f2").reshape(self.shape)


def _checksum(body: bytes | memoryview) -> bytes:
    return xxhash.xxh3_128_digest(body)
