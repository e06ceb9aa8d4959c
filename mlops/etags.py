"""What S3 says of an object's content: an MD5, or that of its parts' MD5s, or nothing that can be recomputed."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path


def is_md5(etag: str) -> bool:
    """Whether it can be the MD5 of the content: an upload in one piece, and not encrypted under a key of KMS."""
    return re.fullmatch(r"[0-9a-f]{32}", etag) is not None


def parts(etag: str) -> int:
    """Of how many parts the upload was, by its ETag; 0 where it does not tell."""
    match = re.fullmatch(r"[0-9a-f]{32}-([0-9]+)", etag)
    return int(match[1]) if match else 0


def md5(file: Path) -> str:
    """The ETag of an upload in one piece."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def multipart(file: Path, sizes: Sequence[int]) -> str:
    """The ETag of an upload in parts of so many bytes each."""
    with file.open("rb") as content:
        digests = [hashlib.md5(content.read(size), usedforsecurity=False).digest() for size in sizes]
    return f"{hashlib.md5(b''.join(digests), usedforsecurity=False).hexdigest()}-{len(digests)}"
