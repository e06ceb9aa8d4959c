"""The commands that need nothing installed: make targets, the lock, the script that installs the environment."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.project import ROOT

FILES = (".ci/lock", ".ci/environment", "Makefile", "pyproject.toml", "requirements.lock")
GIVEN = ("DATA", "SUBSET", "FOLD", "EPOCHS", "ARGS", "PYTHON")  # variables of the Makefile


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A directory with only the files that `make` starts from."""
    for name in FILES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def call(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    # The `make` that runs these tests exports its own flags and variables to the inner one.
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS", *GIVEN))}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def mark_ready(folder: Path, at: Path | None = None) -> None:
    """Write what an installed environment has, as if it had been installed in `at`."""
    (folder / ".venv").mkdir()
    (folder / ".venv" / "ready").write_text(f"{at or folder}\n", encoding="utf-8")


def check(folder: Path) -> str:
    """Return the errors that `.ci/lock check` finds."""
    done = call(folder, sys.executable, ".ci/lock", "check")
    assert (done.returncode == 0) == (done.stderr == ""), done.stderr
    return done.stderr


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_the_lock_is_up_to_date() -> None:
    assert check(ROOT) == ""


def test_a_changed_requirement_makes_the_lock_outdated(copy: Path) -> None:
    edit(copy / "pyproject.toml", "# the network", "# the neural network")
    assert check(copy) == ""
    edit(copy / "pyproject.toml", '"torch==2.11.0"', '"torch==2.11.1"')
    assert "make lock" in check(copy)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("torch==2.11.0 ", "torch>=2.11.0 ", "torch>=2.11.0: not pinned"),
        ("\n# Written", "\n--index-url https://registry.example.org/simple\n# Written", "registry"),
        ("torch==2.11.0 ", "torch @ https://registry.example.org/torch.whl ", "registry"),
    ],
)
def test_an_unpinned_package_or_a_registry_is_refused(old: str, new: str, words: str, copy: Path) -> None:
    lock = copy / "requirements.lock"
    lock.write_text("\n" + lock.read_text(encoding="utf-8"), encoding="utf-8")
    edit(lock, old, new)
    assert words in check(copy)


def test_a_package_without_a_hash_is_refused(copy: Path) -> None:
    with (copy / "requirements.lock").open("a", encoding="utf-8") as lock:
        lock.write("stray==1.0\n")
    assert "stray==1.0: not pinned" in check(copy)


def test_make_lists_every_target(copy: Path) -> None:
    done = call(copy, "make")
    assert done.returncode == 0
    for target in ("demo", "test", "lint", "images", "test-images", "compile", "lock", "mlflow", "down", "clean"):
        assert f"make {target} " in done.stdout


def test_make_demo_passes_its_variables(copy: Path) -> None:
    mark_ready(copy)
    given = ["DATA=my clips", "SUBSET=esc10", "FOLD=4", "EPOCHS=3"]
    command = " ".join(call(copy, "make", "-n", "demo", *given).stdout.replace("\\\n", " ").split())
    assert command == '.venv/bin/audiocnn demo --data "my clips" --subset "esc10" --fold "4" --epochs "3"'
    assert call(copy, "make", "-n", "demo").stdout.split() == [".venv/bin/audiocnn", "demo", "\\"]


def test_make_repro_says_that_the_data_is_missing(copy: Path) -> None:
    mark_ready(copy)
    done = call(copy, "make", "repro")
    assert done.returncode == 2 and done.stderr.startswith("error: data/ is missing: put ESC-50 there")


def test_a_moved_project_gets_a_new_environment(copy: Path) -> None:
    mark_ready(copy)
    assert call(copy, "make", "-q", ".venv/ready").returncode == 0
    moved = copy.rename(copy.with_name("it's #moved (1), $HOME"))
    assert call(moved, "make", "-q", ".venv/ready").returncode == 1
    (moved / ".venv" / "ready").write_text(f"{moved}\n", encoding="utf-8")
    assert call(moved, "make", "-q", ".venv/ready").returncode == 0


def test_a_missing_python_is_an_error(copy: Path) -> None:
    done = call(copy, "make", ".venv/ready", "PYTHON=/bin/false")
    assert done.returncode != 0
    assert "no Python 3.11 or 3.12 found at PYTHON=/bin/false" in done.stderr
    assert not (copy / ".venv").exists()


def test_an_empty_variable_is_passed(copy: Path) -> None:
    plain = call(copy, "make", "-n", "demo").stdout
    given = call(copy, "make", "-n", "demo", "DATA=", "FOLD=4", "ARGS=--set train.epochs=3").stdout
    assert "--data" not in plain and "--fold" not in plain
    assert '--data ""' in given and '--fold "4"' in given and "--set train.epochs=3" in given


@pytest.mark.parametrize(("clips", "status"), [("", 0), ("/nowhere", 1)])
def test_a_skipped_test_fails_if_its_data_is_configured(clips: str, status: int) -> None:
    test = "tests/unit/pipeline/cli/test_run.py::test_real_clips_have_no_fold_5"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test]
    environment = {**os.environ, "AUDIOCNN_ESC50": clips}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == status
    assert ("AUDIOCNN_ESC50 is set, but the test was skipped" in done.stdout) == bool(clips)
