"""Which code ran: the commit where there is one, and a digest that follows the sources."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlops import provenance as revision


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project of one file, not yet under version control."""
    (tmp_path / "audiocnn").mkdir()
    (tmp_path / "audiocnn" / "model.py").write_text("WIDTH = 1\n")
    monkeypatch.setattr(revision, "ROOT", tmp_path)
    monkeypatch.delenv(revision.REVISION, raising=False)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    forget()
    yield tmp_path
    forget()


def forget() -> None:
    revision.git_revision.cache_clear()
    revision.code_digest.cache_clear()


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=tests", "-c", "user.email=tests@localhost"]
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_a_commit_is_named_and_a_change_on_top_of_it_too(checkout: Path) -> None:
    git(checkout, "init", "-q")
    git(checkout, "add", ".")
    git(checkout, "commit", "-q", "-m", "first")
    commit = git(checkout, "rev-parse", "HEAD")
    assert revision.git_revision() == commit
    (checkout / "audiocnn" / "model.py").write_text("WIDTH = 2\n")
    forget()
    assert revision.git_revision() == f"{commit}-dirty"


def test_without_a_repository_the_environment_tells_or_it_is_unknown(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert revision.git_revision() == "unknown"
    forget()
    monkeypatch.setenv(revision.REVISION, "abc123")
    assert revision.git_revision() == "abc123"


def test_a_repository_that_the_project_merely_lies_in_is_not_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(tmp_path, "init", "-q")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "somebody else's")
    (tmp_path / "inside").mkdir()
    monkeypatch.setattr(revision, "ROOT", tmp_path / "inside")
    monkeypatch.delenv(revision.REVISION, raising=False)
    forget()
    assert revision.git_revision() == "unknown"
    forget()


def test_without_git_it_is_unknown(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert revision.git_revision() == "unknown"


def test_the_digest_follows_content_and_names_of_sources_alone(checkout: Path) -> None:
    def digest() -> str:
        forget()
        return revision.code_digest()

    first = digest()
    (checkout / "audiocnn" / "notes.txt").write_text("not code")
    (checkout / "audiocnn" / "__pycache__").mkdir()
    assert digest() == first
    (checkout / "audiocnn" / "model.py").write_text("WIDTH = 2\n")
    changed = digest()
    shutil.move(checkout / "audiocnn" / "model.py", checkout / "audiocnn" / "network.py")
    assert len({first, changed, digest()}) == 3
    assert revision.code_digest("components") != first
