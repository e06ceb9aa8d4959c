"""The git revision and the code digest."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlops import provenance


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project with one file and without a repository."""
    (tmp_path / "audiocnn").mkdir()
    (tmp_path / "audiocnn" / "model.py").write_text("WIDTH = 1\n")
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    monkeypatch.delenv(provenance.REVISION, raising=False)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    clear_caches()
    yield tmp_path
    clear_caches()


def clear_caches() -> None:
    provenance.git_revision.cache_clear()
    provenance.code_digest.cache_clear()


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=tests", "-c", "user.email=tests@localhost"]
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_revision_is_the_commit_with_a_suffix_for_changes(checkout: Path) -> None:
    git(checkout, "init", "-q")
    git(checkout, "add", ".")
    git(checkout, "commit", "-q", "-m", "first")
    commit = git(checkout, "rev-parse", "HEAD")
    assert provenance.git_revision() == commit
    (checkout / "audiocnn" / "model.py").write_text("WIDTH = 2\n")
    clear_caches()
    assert provenance.git_revision() == f"{commit}-dirty"


def test_the_diff_restores_changed_files_and_has_no_untracked_ones(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(checkout, "init", "-q")
    (checkout / "audiocnn" / "model.py").write_bytes(b"WIDTH = 1\n# caf\xe9\n \n")
    git(checkout, "add", ".")
    git(checkout, "commit", "-q", "-m", "first")
    assert provenance.git_diff() == ""
    clear_caches()
    (checkout / "audiocnn" / "model.py").write_bytes(b"WIDTH = 2\n# caf\xe9\n \n")
    (checkout / "password.txt").write_text("secret")
    diff = provenance.git_diff()
    assert "+WIDTH = 2" in diff and "secret" not in diff
    monkeypatch.setattr(provenance, "DIFF_LENGTH", 20)
    assert provenance.git_diff() == f"{diff[:20]}\n(cut after 20 characters)\n"


def test_a_saved_diff_can_be_applied(checkout: Path, tmp_path: Path) -> None:
    git(checkout, "init", "-q")
    git(checkout, "add", ".")
    git(checkout, "commit", "-q", "-m", "first")
    (checkout / "audiocnn" / "model.py").write_text("WIDTH = 2\n\n")
    (tmp_path / "code.diff").write_text(provenance.git_diff())
    git(checkout, "checkout", "-q", "--", ".")
    git(checkout, "apply", str(tmp_path / "code.diff"))
    assert (checkout / "audiocnn" / "model.py").read_text() == "WIDTH = 2\n\n"


def test_revision_without_repository_is_that_of_the_environment(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert provenance.git_revision() == "unknown"
    clear_caches()
    monkeypatch.setenv(provenance.REVISION, "abc123")
    assert provenance.git_revision() == "abc123"


def test_repository_of_a_parent_folder_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(tmp_path, "init", "-q")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "another project")
    (tmp_path / "inside").mkdir()
    monkeypatch.setattr(provenance, "ROOT", tmp_path / "inside")
    monkeypatch.delenv(provenance.REVISION, raising=False)
    clear_caches()
    assert provenance.git_revision() == "unknown"
    clear_caches()


def test_revision_without_git_is_unknown(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert provenance.git_revision() == "unknown"


def test_digest_depends_on_contents_and_names_of_sources_only(checkout: Path) -> None:
    def digest() -> str:
        clear_caches()
        return provenance.code_digest()

    first = digest()
    (checkout / "audiocnn" / "notes.txt").write_text("not code")
    (checkout / "audiocnn" / "__pycache__").mkdir()
    assert digest() == first
    (checkout / "audiocnn" / "model.py").write_text("WIDTH = 2\n")
    changed = digest()
    shutil.move(checkout / "audiocnn" / "model.py", checkout / "audiocnn" / "network.py")
    assert len({first, changed, digest()}) == 3
    assert provenance.code_digest("components") != first
