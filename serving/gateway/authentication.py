"""Keys of clients: named, compared in constant time, checked before the body of a request is read."""

import hashlib
import hmac
import re
from collections.abc import Mapping
from pathlib import Path

from audiocnn.strict_model import SettingsError
from serving.gateway.problems import Problem

KEYS = "AUDIOCNN_GATEWAY_KEYS"  # NAME:KEY, separated by spaces
ENTRY = re.compile(r"([A-Za-z0-9_.-]{1,64}):([!-~]{16,256})")
CHALLENGE = {"WWW-Authenticate": 'Bearer realm="audiocnn"'}


class Keys:
    """The keys of a gateway. Without any, every client is admitted."""

    def __init__(self, keys: Mapping[str, str]) -> None:
        # Digests have one length, so that the comparison does not reveal that of a key.
        self._digests = {name: _digest(key) for name, key in keys.items()}

    def __bool__(self) -> bool:
        return bool(self._digests)

    def name_of(self, authorization: str | None) -> str:
        """Return the name of the key in a header `Authorization`; empty if no key is needed.

        Raises:
            Problem: 401 without a key, 403 with a wrong one.
        """
        if not self._digests:
            return ""
        scheme, _, given = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not given.strip():
            raise Problem(401, "unauthorized", "a key is needed in the header `Authorization: Bearer KEY`", CHALLENGE)
        digest = _digest(given.strip())
        # All are compared, so that the duration does not depend on which one matches.
        matching = [name for name, known in self._digests.items() if hmac.compare_digest(digest, known)]
        if not matching:
            raise Problem(403, "forbidden", "the key in the header Authorization is not valid")
        return matching[0]


def load_keys(file: str, environment: Mapping[str, str]) -> Keys:
    """Return the keys of a file with a line NAME:KEY for each, and those of the variable AUDIOCNN_GATEWAY_KEYS.

    Raises:
        SettingsError: an entry is malformed or duplicated; the message does not contain it.
        OSError: the file cannot be read.
    """
    entries = [(KEYS, number, text) for number, text in enumerate(environment.get(KEYS, "").split(), 1)]
    if file:
        lines = enumerate(Path(file).read_text(encoding="utf-8").splitlines(), 1)
        entries += [(file, number, line.strip()) for number, line in lines if line.strip() and line.strip()[0] != "#"]
    keys: dict[str, str] = {}
    for where, number, text in entries:
        if not (match := ENTRY.fullmatch(text)):
            raise SettingsError(
                f"{where}: entry {number} is not NAME:KEY with a name of letters, digits, `_`, `.` and `-`, and a key "
                "of 16 to 256 characters without spaces; `openssl rand -hex 32` makes a key"
            )
        if match[1] in keys:
            raise SettingsError(f"{where}: entry {number} has the name {match[1]} again; give each key its own")
        keys[match[1]] = match[2]
    return Keys(keys)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
