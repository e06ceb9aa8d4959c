"""Atomic files and folders."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.project import ROOT

from audiocnn import atomic
from audiocnn.atomic import atomic_file, atomic_folder, temporary_folder

WRITE_SLOWLY = """
import sys, time
from pathlib import Path
from audiocnn.atomic import atomic_folder
with atomic_folder(Path(sys.argv[1])) as part:
    (part / "large").write_text("incomplete")
    print("writing", flush=True)
    time.sleep(600)
"""


def names(folder: Path) -> list[str]:
    """Names of all entries, hidden ones included."""
    return sorted(path.name for path in folder.iterdir())


def test_file_appears_only_when_complete(tmp_path: Path) -> None:
    with atomic_file(tmp_path / "new" / "a.txt") as part:
        part.write_text("one")
        assert not (tmp_path / "new" / "a.txt").exists()
    assert (tmp_path / "new" / "a.txt").read_text() == "one"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_failure_keeps_the_old_file(tmp_path: Path, error: type[BaseException]) -> None:
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(error), atomic_file(tmp_path / "a.txt") as part:
        part.write_text("incomplete")
        raise error
    assert (tmp_path / "a.txt").read_text() == "old" and names(tmp_path) == ["a.txt"]


def test_new_folder_replaces_the_old_one_completely(tmp_path: Path) -> None:
    for content in ("old", "new"):
        with atomic_folder(tmp_path / "out", replace=True) as part:
            (part / content).write_text(content)
    assert names(tmp_path / "out") == ["new"] and names(tmp_path) == ["out"]


def test_folder_has_the_permissions_of_mkdir(tmp_path: Path) -> None:
    (tmp_path / "usual").mkdir()
    with atomic_folder(tmp_path / "out"):
        pass
    assert (tmp_path / "out").stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_failure_keeps_the_old_folder(tmp_path: Path, error: type[BaseException]) -> None:
    with atomic_folder(tmp_path / "out") as part:
        (part / "a").write_text("old")
    with pytest.raises(error), atomic_folder(tmp_path / "out", replace=True) as part:
        (part / "a").write_text("incomplete")
        raise error
    assert (tmp_path / "out" / "a").read_text() == "old" and names(tmp_path) == ["out"]


def test_failed_rename_restores_the_old_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with atomic_folder(tmp_path / "out") as part:
        (part / "a").write_text("old")
    rename = Path.replace

    def fail_for_new_folder(self: Path, target: Path) -> Path:
        if (self / "b").exists():
            raise OSError("disk failure")
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", fail_for_new_folder)
    with pytest.raises(OSError, match="disk failure"), atomic_folder(tmp_path / "out", replace=True) as part:
        (part / "b").write_text("new")
    assert names(tmp_path / "out") == ["a"] and names(tmp_path) == ["out"]


@pytest.mark.parametrize("name", ["folder", "file"])
def test_existing_data_is_not_replaced_by_default(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for file in (tmp_path / "folder" / "cat.jpg", tmp_path / "file"):
        file.write_text("the only copy")
    expected = f"already exists and is not empty: .*{name}"
    with pytest.raises(FileExistsError, match=expected), atomic_folder(tmp_path / name):
        pytest.fail("the block must not run")
    assert names(tmp_path) == ["file", "folder"] and names(tmp_path / "folder") == ["cat.jpg"]


def test_empty_folder_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with atomic_folder(tmp_path / "out") as part:
        (part / "a").write_text("new")
    assert names(tmp_path / "out") == ["a"]


@pytest.mark.parametrize("exists", [True, False])
def test_symbolic_link_stays_and_its_target_is_written(exists: bool, tmp_path: Path) -> None:
    target, link = tmp_path / "disk" / "target", tmp_path / "link"
    link.symlink_to(target)
    if exists:
        target.mkdir(parents=True)
    with atomic_folder(link, replace=True) as part:
        (part / "a").write_text("new")
    assert link.is_symlink() and (target / "a").read_text() == "new"
    assert names(tmp_path) == ["disk", "link"] and names(tmp_path / "disk") == ["target"]


def test_leftover_of_a_killed_process_is_removed_after_a_day(tmp_path: Path) -> None:
    output = tmp_path / "out"
    command = [sys.executable, "-c", WRITE_SLOWLY, str(output)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "writing\n"
        with temporary_folder(output):
            pass
        (leftover,) = tmp_path.iterdir()  # the process still writes to it
        process.send_signal(signal.SIGKILL)
    yesterday = time.time() - atomic.LEFTOVER_SECONDS - 1
    os.utime(leftover, (yesterday, yesterday))
    with atomic_folder(output):
        pass
    assert names(tmp_path) == ["out"]


def test_other_folders_are_not_removed_as_leftovers(tmp_path: Path) -> None:
    for name in (".out.part", ".outer.abc.part", ".out.source", "out.abc.part"):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (0, 0))
    before = names(tmp_path)
    with temporary_folder(tmp_path / "out") as folder:
        assert folder.is_dir()
    assert names(tmp_path) == before
