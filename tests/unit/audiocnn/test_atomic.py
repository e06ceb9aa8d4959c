"""Whole or not at all."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.project import ROOT

from audiocnn.atomic import OutputError, atomic_file, atomic_folder, check_output, scratch_folder

HOLD = """
import sys, time
from pathlib import Path
from audiocnn.atomic import atomic_folder, scratch_folder
with {block} as part:
    (part / "large").write_text("half")
    print("in it", flush=True)
    time.sleep(600)
"""
MOVE = """
import os, signal, sys
from pathlib import Path
from audiocnn.atomic import atomic_folder
rename = Path.replace
def die_after_the_first(self, target):
    rename(self, target)
    os.kill(os.getpid(), signal.SIGKILL)
Path.replace = die_after_the_first
with atomic_folder(Path(sys.argv[1]), "spec.json") as part:
    (part / "spec.json").write_text("new")
"""


def python(code: str, output: Path) -> subprocess.Popen[str]:
    """Another process of this Python."""
    return subprocess.Popen([sys.executable, "-c", code, str(output)], cwd=ROOT, stdout=subprocess.PIPE, text=True)


def names(folder: Path) -> list[str]:
    """Whatever is there, hidden parts too."""
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_whole(tmp_path: Path) -> None:
    with atomic_file(tmp_path / "new" / "a.txt") as part:
        part.write_text("one")
        assert not (tmp_path / "new" / "a.txt").exists()
    assert (tmp_path / "new" / "a.txt").read_text() == "one"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_file_and_no_rest(tmp_path: Path, error: type[BaseException]) -> None:
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(error), atomic_file(tmp_path / "a.txt") as part:
        part.write_text("half")
        raise error
    assert (tmp_path / "a.txt").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_folder_replaces_the_old_one_as_a_whole(tmp_path: Path) -> None:
    for content in ("old", "new"):
        with atomic_folder(tmp_path / "out", "spec.json") as part:
            (part / content).write_text(content)
            (part / "spec.json").write_text("{}")
    assert names(tmp_path / "out") == ["new", "spec.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_folder_and_no_rest(tmp_path: Path, error: type[BaseException]) -> None:
    with atomic_folder(tmp_path / "out") as part:
        (part / "a").write_text("old")
    with pytest.raises(error), atomic_folder(tmp_path / "out", "a") as part:
        (part / "a").write_text("half")
        raise error
    assert (tmp_path / "out" / "a").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_that_cannot_be_moved_into_place_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with atomic_folder(tmp_path / "out") as part:
        (part / "a").write_text("old")
    rename = Path.replace

    def fail_second(self: Path, target: Path) -> Path:
        if target.name == "out" and (self / "b").exists():
            raise OSError("disk gone")
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", fail_second)
    with pytest.raises(OSError, match="disk gone"), atomic_folder(tmp_path / "out", "a") as part:
        (part / "b").write_text("new")
    assert (tmp_path / "out" / "a").read_text() == "old"


@pytest.mark.parametrize("marker", [None, "spec.json"])
@pytest.mark.parametrize("there", ["folder", "file"])
def test_what_is_no_earlier_output_is_not_replaced(marker: str | None, there: str, tmp_path: Path) -> None:
    place = tmp_path / "photos"
    photo = place / "cat.jpg" if there == "folder" else place
    photo.parent.mkdir(exist_ok=True)
    photo.write_text("the only one")
    with pytest.raises(OutputError, match="choose another output"), atomic_folder(place, marker):
        raise AssertionError("the work is not even begun")
    assert photo.read_text() == "the only one" and names(tmp_path) == ["photos"]


def test_an_empty_folder_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with atomic_folder(tmp_path / "out") as part:
        (part / "a").write_text("new")
    assert names(tmp_path / "out") == ["a"]


@pytest.mark.parametrize("output", ["set", "."])
def test_an_input_is_never_replaced_whatever_it_looks_like(output: str, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    for folder in (tmp_path, tmp_path / "set"):
        (folder / "spec.json").write_text("{}")
    with pytest.raises(OutputError, match="is, or holds, the input"):
        check_output(tmp_path / output, "spec.json", [tmp_path / "other", tmp_path / "set"])


@pytest.mark.parametrize("output", [".", "..", "../here", "/"])
def test_the_working_folder_is_never_replaced(output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(OutputError, match="is the working folder, or holds it"):
        check_output(Path(output))


@pytest.mark.parametrize("output", ["/proc/x", "/proc/x/y", "{}/file/x"])
def test_a_place_that_cannot_be_written_is_known_before_the_work(output: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OutputError, match=r"cannot be written: no folder can be made in .*choose another") as raised:
        check_output(Path(output.format(tmp_path)), "spec.json")
    assert ".part" not in str(raised.value) and names(tmp_path) == ["file"]


def test_trying_a_place_leaves_nothing(tmp_path: Path) -> None:
    assert check_output(tmp_path / "new" / "deep" / "out") == tmp_path / "new" / "deep" / "out"
    assert names(tmp_path) == []


@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_and_the_folder_that_it_leads_to_is_replaced(there: bool, tmp_path: Path) -> None:
    real, link = tmp_path / "disk" / "real", tmp_path / "link"
    link.symlink_to(real)
    if there:
        with atomic_folder(link, "spec.json") as part:
            (part / "spec.json").write_text("old")
    with atomic_folder(link, "spec.json") as part:
        (part / "spec.json").write_text("new")
    assert link.is_symlink() and (real / "spec.json").read_text() == "new"
    assert names(tmp_path) == ["disk", "link"] and names(tmp_path / "disk") == ["real"]


@pytest.mark.parametrize("block", ["atomic_folder(Path(sys.argv[1]))", "scratch_folder(Path(sys.argv[1]))"])
def test_what_a_killed_process_left_is_swept_and_what_a_living_one_writes_is_not(block: str, tmp_path: Path) -> None:
    output = tmp_path / "out"
    running = [python(HOLD.format(block=block), output) for _ in range(2)]
    try:
        for process in running:
            assert process.stdout is not None and process.stdout.readline() == "in it\n"
        assert len(names(tmp_path)) == 2
        running[0].send_signal(signal.SIGKILL)
        running[0].wait()
        assert len(names(tmp_path)) == 2  # it could not clean up
        with atomic_folder(output) as part:
            (part / "a").write_text("whole")
        (left,) = set(names(tmp_path)) - {"out"}
        assert (tmp_path / left / "new" / "large").read_text() == "half"
    finally:
        for process in running:
            process.kill()
            process.communicate()


def test_a_sweep_leaves_alone_what_only_looks_alike(tmp_path: Path) -> None:
    for name in (".out.part", f".outer.{32 * 'a'}.part", f".out.more.{32 * 'a'}.part", ".out.source"):
        (tmp_path / name).mkdir()
    before = names(tmp_path)
    with scratch_folder(tmp_path / "out") as scratch:
        assert scratch.is_dir()
    assert names(tmp_path) == before


def test_a_process_killed_between_the_two_renames_does_not_cost_the_old_folder(tmp_path: Path) -> None:
    output = tmp_path / "out"
    with atomic_folder(output, "spec.json") as part:
        (part / "spec.json").write_text("old")
    assert python(MOVE, output).wait() == -signal.SIGKILL
    assert not output.exists()
    with pytest.raises(RuntimeError), atomic_folder(output, "spec.json"):
        raise RuntimeError("this run comes to nothing")
    assert (output / "spec.json").read_text() == "old" and names(tmp_path) == ["out"]


@pytest.mark.parametrize("kind", [atomic_file, atomic_folder, scratch_folder])
def test_a_full_disk_names_the_place(kind, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left") as raised, kind(tmp_path / "out"):
        full = os.open("/dev/full", os.O_WRONLY)
        try:
            os.write(full, b"x")
        finally:
            os.close(full)
    assert raised.value.filename == str(tmp_path / "out")
    assert names(tmp_path) == []
