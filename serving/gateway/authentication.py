"""Keys of clients: named, compared in constant time, checked before the body of a request is read."""

import hashlib
import hmac
import os
import re
from collections.abc import Mapping
from pathlib import Path

from audiocnn.strict_model import SettingsError
from mlops.settings import is_http_address, is_loopback
from serving.gateway.problems import Problem
from serving.gateway.settings import GatewaySettings

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


def configured_keys(settings: GatewaySettings) -> Keys:
    """Return the keys of the settings and of this process's environment.

    Raises:
        SettingsError: there is none, but other machines can reach the gateway, or one is malformed.
        OSError: the file cannot be read.
    """
    keys = load_keys(settings.keys, os.environ)
    if not keys and not is_loopback(f"http://{settings.host}"):
        raise SettingsError(
            f"gateway.host: {settings.host} can be reached from other machines, which needs keys: set gateway.keys "
            f"to a file with lines NAME:KEY, or the variable {KEYS}"
        )
    return keys


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


def check_host(host: str, settings: GatewaySettings) -> None:
    """Refuse a request that a browser sent under the name of another site, which then points to this machine.

    Only needed without keys: a page of that site has none.

    Args:
        host: the header Host.
    Raises:
        Problem: 421, if the gateway listens on loopback only, and the name is not one of this machine.
    """
    url = f"http://{host}"
    known = is_http_address(url) and is_loopback(url)
    if host and is_loopback(f"http://{settings.host}") and not known:
        raise Problem(421, "wrong_host", "the gateway is addressed as localhost or 127.0.0.1 here, not by another name")


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
