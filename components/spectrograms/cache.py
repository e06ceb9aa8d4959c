"""A content-addressed store of spectrograms: by the clip's MD5, the settings and the front end's version."""

import hashlib
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt

from audiocnn.atomic import atomic_file
from audiocnn.params import as_dict
from audiocnn.settings import SpectrogramSettings
from audiocnn.spectrogram import FRONT_END

_CHECKSUM = 16  # bytes of BLAKE2b after the array


class SpectrogramCache:
    """Entries of one front end under `root`, each a file of its own, so that any number of processes can fill it.

    An entry is the raw little-endian float16 array (n_mels, frames) and its checksum; one that was cut or flipped
    counts as missing. The MD5 names content that ingest has read; it guards against accidents, not against attacks.
    """

    def __init__(self, root: Path, settings: SpectrogramSettings) -> None:
        self.shape = (settings.n_mels, settings.frames)
        key = json.dumps({"front_end": FRONT_END, **as_dict(settings)}, sort_keys=True)
        self.folder = root / hashlib.sha256(key.encode()).hexdigest()[:16]

    def get(self, md5: str) -> npt.NDArray[np.float16] | None:
        """The entry, float16 (n_mels, frames), or None where there is no sound one."""
        try:
            content = self._path(md5).read_bytes()
        except FileNotFoundError:
            return None
        body, checksum = content[:-_CHECKSUM], content[-_CHECKSUM:]
        if len(body) != 2 * self.shape[0] * self.shape[1] or _checksum(body) != checksum:
            return None
        return np.frombuffer(body, "<f2").reshape(self.shape)

    def put(self, md5: str, spectrogram: npt.NDArray[np.float16]) -> None:
        """Store an entry, float16 (n_mels, frames); readers see it whole or not at all."""
        if spectrogram.shape != self.shape or spectrogram.dtype != np.float16:
            raise ValueError(f"expected float16 {self.shape}, found {spectrogram.dtype} {spectrogram.shape}")
        body = spectrogram.astype("<f2").tobytes()
        with atomic_file(self._path(md5)) as part:
            part.write_bytes(body + _checksum(body))

    def _path(self, md5: str) -> Path:
        return self.folder / md5[:2] / md5


def _checksum(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=_CHECKSUM).digest()
