"""Cache entries, addressed by the clip's MD5, the settings and the version of the front end."""

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import numpy.typing as npt
import xxhash

from audiocnn.config import SpectrogramSettings
from audiocnn.errors import AudioCNNError
from audiocnn.features import FRONT_END_VERSION
from mlops.spectrogram_cache import names
from mlops.spectrogram_cache.manifests import Manifest
from mlops.storage import StorageError, Store

_FORMAT = 2  # version of the content of an entry
_CHECKSUM_BYTES = 16  # XXH3, after the array


class CacheError(AudioCNNError):
    """A cache that cannot be written by a shard, whose only purpose is to fill it."""


class SpectrogramCache:
    """Entries of one front end. Any number of processes may read and write them.

    An entry is a little-endian float16 array (n_mels, frames), followed by its checksum. Damaged entries count as
    missing. Neither the checksum nor the MD5 protects against attacks: everyone who can write to the cache is trusted.

    Args:
        required: whether a failed write raises CacheError. By default it is reported once, then writes are skipped.
    """

    def __init__(self, store: Store, settings: SpectrogramSettings, required: bool = False) -> None:
        self.store = store
        self.shape = (settings.n_mels, settings.frames)
        self._size = 2 * settings.n_mels * settings.frames
        key = json.dumps({"front_end": FRONT_END_VERSION, "format": _FORMAT, **settings.to_dict()}, sort_keys=True)
        self.front_end = hashlib.sha256(key.encode()).hexdigest()[:16]
        self._required = required
        self._writable = True

    def get_many(self, md5s: Iterable[str]) -> Iterator[npt.NDArray[np.float16] | None]:
        """Yield entries, float16 (n_mels, frames); None for one that is missing or damaged."""
        return map(self._parse, self.store.get_many(map(self.name, md5s)))

    def put(self, md5: str, spectrogram: npt.NDArray[np.float16]) -> None:
        """Write an entry, float16 (n_mels, frames)."""
        if spectrogram.shape != self.shape or spectrogram.dtype != np.float16:
            raise ValueError(f"expected float16 {self.shape}, found {spectrogram.dtype} {spectrogram.shape}")
        body = spectrogram.astype("<f2").tobytes()
        self._write(lambda: self.store.put(self.name(md5), body + xxhash.xxh3_128_digest(body)))

    def flush(self) -> None:
        """Wait until all writes are complete."""
        self._write(self.store.flush)

    def record_use(self, dataset: str, digest: str, md5s: Iterable[str]) -> None:
        manifest = Manifest(name=dataset, digest=digest, entries=tuple(map(self.name, md5s)), used=time.time())
        self._write(lambda: self.store.put(names.manifest(digest, self.front_end), manifest.to_bytes()))
        self.flush()

    def name(self, md5: str) -> str:
        return names.entry(self.front_end, md5)

    def _write(self, write: Callable[[], None]) -> None:
        if not self._writable:
            return
        try:
            write()
        except (OSError, StorageError) as error:
            if self._required:
                raise CacheError(
                    f"the spectrogram cache {self.store.address} cannot be written: {error}; check its free space and "
                    "permissions, or choose another cache"
                ) from error
            self._writable = False
            print(f"[spectrograms] continuing without writing to the cache: {error}", flush=True)

    def _parse(self, content: bytes | None) -> npt.NDArray[np.float16] | None:
        if content is None or len(content) != self._size + _CHECKSUM_BYTES:
            return None
        body = memoryview(content)[: self._size]
        if xxhash.xxh3_128_digest(body) != content[self._size :]:
            return None
        return np.frombuffer(body, "<f2").reshape(self.shape)
