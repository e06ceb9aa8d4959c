"""How errors reach a person: one sentence with the place and what to do, and the right status."""

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from helpers.project import ROOT

from audiocnn.atomic import atomic_folder
from mlops.command_line import errors_to_exit


def said(error: BaseException, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(typer.Exit) as left, errors_to_exit():
        raise error
    assert left.value.exit_code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/data/set"), "/data/set: the disk is full; make room"),
        (PermissionError(errno.EACCES, "Permission denied", "/data"), "/data: you may not read or write there"),
        (FileNotFoundError(errno.ENOENT, "No such file", "x.yaml"), "x.yaml: there is no such file or folder"),
        (OSError(errno.EMFILE, "Too many open files", "a"), "a: Too many open files"),
        (OSError("a library's own words"), "a library's own words"),
    ],
)
def test_an_error_of_the_system_is_a_sentence_with_its_place_and_its_remedy(
    error: OSError, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = said(error, capsys)
    assert text.startswith(f"error: {expected}") and "Errno" not in text


def test_a_full_disk_is_told_with_the_output_that_has_no_room(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit), errors_to_exit(), atomic_folder(tmp_path / "out"):
        full = os.open("/dev/full", os.O_WRONLY)
        try:
            os.write(full, b"x")  # the system names no file here
        finally:
            os.close(full)
    assert capsys.readouterr().err == f"error: {tmp_path / 'out'}: the disk is full; make room there and run it again\n"


def test_a_step_that_may_write_no_more_says_so_in_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-m", "components.ingest", "--output", str(tmp_path / "dataset")]
    limit = 100_000  # bytes a file; a clip has four times as many
    done = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: ") and "files of that size are not allowed there" in done.stderr
    assert not list(tmp_path.iterdir())
