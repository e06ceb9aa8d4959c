"""Which code ran: the git revision, and a digest of the source files."""

import hashlib
import os
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("audiocnn", "mlops", "components", "pipeline", "serving")
REVISION = "AUDIOCNN_GIT_REVISION"  # set in images, which carry no .git
UNKNOWN = "unknown"


@cache
def git_revision() -> str:
    """The commit, 40 hex digits, with `-dirty` when tracked files differ from it.

    Without a repository the variable AUDIOCNN_GIT_REVISION tells it, else it is `unknown`.
    """
    if stated := os.environ.get(REVISION):
        return stated
    commit = _git("rev-parse", "HEAD")
    if commit is None or _git("rev-parse", "--show-toplevel") != str(ROOT):
        return UNKNOWN
    return f"{commit}-dirty" if _git("status", "--porcelain", "--untracked-files=no") else commit


@cache
def code_digest(*packages: str) -> str:
    """SHA-256, hex, over path and content of the Python files of `packages`, by default all of the project's.

    KFP's cache does not see code that a component imports; as an argument this digest makes it look.
    """
    total = hashlib.sha256()
    for package in packages or PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            total.update(f"{path.relative_to(ROOT).as_posix()}\0".encode())
            total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def training_code_version() -> str:
    """What a training's weights depend on beside its data and settings: the library's code, and PyTorch."""
    return f"{code_digest('audiocnn')} torch {version('torch')}"


def _git(*arguments: str) -> str | None:
    """What `git` prints, stripped; None where there is no git or no repository."""
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
