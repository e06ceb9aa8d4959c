"""What the cache's files are called: entries, and the manifests that say which data sets use them."""

import re

MANIFESTS = "datasets/"  # manifests lie below it
_ENTRY = re.compile(r"[0-9a-f]{16}/([0-9a-f]{2})/\1[0-9a-f]{30}")
_MANIFEST = re.compile(MANIFESTS + r"[0-9a-f]{16}-(?:[0-9a-f]{16}|none)\.json")


def entry(front_end: str, md5: str) -> str:
    """A clip's entry; `front_end` stands for the settings and the code that computed it: 16 hex digits."""
    return f"{front_end}/{md5[:2]}/{md5}"


def manifest(digest: str, front_end: str) -> str:
    """The manifest of a data set under a front end, "none" where it has no entries."""
    return f"{MANIFESTS}{digest[:16]}-{front_end}.json"


def is_entry(name: str) -> bool:
    """Whether a file of this name can be an entry: all that bounding the cache may ever remove."""
    return _ENTRY.fullmatch(name) is not None


def is_manifest(name: str) -> bool:
    """Whether a file of this name can be a manifest."""
    return _MANIFEST.fullmatch(name) is not None


def is_own(name: str) -> bool:
    """Whether a file of this name can be the cache's at all."""
    return is_entry(name) or is_manifest(name)
