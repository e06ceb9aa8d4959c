"""Names of the cache's files. Files with other names are never removed."""

import re

MANIFESTS = "datasets"  # the folder of the manifests
_ENTRY = re.compile(r"[0-9a-f]{16}/([0-9a-f]{2})/\1[0-9a-f]{30}")
_MANIFEST = re.compile(MANIFESTS + r"/[0-9a-f]{16}-[0-9a-f]{16}\.json")


def entry(front_end: str, md5: str) -> str:
    """Name the entry of a clip; `front_end` is the digest of the settings, 16 hexadecimal digits."""
    return f"{front_end}/{md5[:2]}/{md5}"


def manifest(digest: str, front_end: str) -> str:
    return f"{MANIFESTS}/{digest[:16]}-{front_end}.json"


def is_entry(name: str) -> bool:
    return _ENTRY.fullmatch(name) is not None


def is_manifest(name: str) -> bool:
    return _MANIFEST.fullmatch(name) is not None
