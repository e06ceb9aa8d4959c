"""Facts that records contain: git revision, digest of the source files, and time."""

import hashlib
import os
import subprocess
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("audiocnn", "mlops", "components", "pipeline", "serving")
LOCK = "requirements.lock"
DIFF_LENGTH = 1_000_000  # characters
REVISION = "AUDIOCNN_GIT_REVISION"  # set in images, which do not contain .git
UNKNOWN = "unknown"
DIRTY = "-dirty"  # end of a revision from which tracked files differ


def utc_now() -> str:
    """Return the time in UTC as ISO 8601, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@cache
def git_revision() -> str:
    """Return the git commit, with `-dirty` appended if tracked files differ from it.

    Without a repository: the value of AUDIOCNN_GIT_REVISION, or `unknown`.
    """
    if revision := os.environ.get(REVISION):
        return revision
    commit = _git("rev-parse", "HEAD")
    if commit is None or _git("rev-parse", "--show-toplevel") != str(ROOT):
        return UNKNOWN
    return f"{commit}{DIRTY}" if _git("status", "--porcelain", "--untracked-files=no") else commit


def git_diff() -> str:
    """Return the difference of the tracked files from the commit; empty without one.

    Files that are not tracked are left out, since they may contain secrets; so are the contents of binary files. Of a
    longer difference, the first 1,000,000 characters are returned, with a line that says so.
    """
    if not git_revision().endswith(DIRTY):
        return ""
    diff = _git("diff", "HEAD", "--no-ext-diff", "--no-color") or ""
    return f"{diff}\n" if len(diff) <= DIFF_LENGTH else f"{diff[:DIFF_LENGTH]}\n(cut after {DIFF_LENGTH} characters)\n"


@cache
def lock_digest() -> str:
    """Return the SHA-256 digest of requirements.lock, or `unknown` without it."""
    lock = ROOT / LOCK
    return hashlib.sha256(lock.read_bytes()).hexdigest() if lock.is_file() else UNKNOWN


@cache
def code_digest(*packages: str) -> str:
    """Return the SHA-256 digest of paths and contents of the Python files of `packages`, by default of all."""
    digest = hashlib.sha256()
    for package in packages or PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            digest.update(f"{path.relative_to(ROOT).as_posix()}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def training_code_version() -> str:
    """Return the code that the weights of a training depend on: digest of the library, version of PyTorch."""
    return f"{code_digest('audiocnn')} torch {version('torch')}"


def _git(*arguments: str) -> str | None:
    """Return the output of a git command; None without git or repository."""
    command = ["git", "-C", str(ROOT), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.rstrip("\n")
