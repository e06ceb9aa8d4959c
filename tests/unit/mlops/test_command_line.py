"""Errors of a command line: one sentence with the path and how to fix it, and an exit status."""

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
from audiocnn.errors import AudioCNNError
from mlops.command_line import errors_to_exit, run


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (AudioCNNError("train.epochs: must be positive"), "train.epochs: must be positive"),
        (OSError(errno.ENOSPC, "No space left on device", "/data/set"), "/data/set: the disk is full; free some space"),
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full; free some space"),
        (PermissionError(errno.EACCES, "Permission denied", "/data"), "/data: Permission denied"),
        (FileNotFoundError(errno.ENOENT, "No such file", "x.yaml"), "x.yaml: No such file"),
        (OSError(errno.EMFILE, "Too many open files", "a"), "a: Too many open files"),
        (OSError("message of a library"), "message of a library"),
    ],
)
def test_error_is_one_sentence_and_exit_status_2(
    error: Exception, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as raised, errors_to_exit():
        raise error
    text = capsys.readouterr().err
    assert raised.value.exit_code == 2
    assert text.startswith(f"error: {expected}") and text.count("\n") == 1 and "Errno" not in text


def test_interrupt_is_exit_status_130(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as raised, errors_to_exit():
        raise KeyboardInterrupt
    assert raised.value.exit_code == 130 and capsys.readouterr().err.startswith("interrupted")


def test_wrong_option_of_a_step_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def main(epochs: int = 1) -> None:
        print(epochs)

    monkeypatch.setattr(sys, "argv", ["step", "--epoch", "2"])
    with pytest.raises(SystemExit) as raised:
        run(main)
    output = capsys.readouterr()
    assert (raised.value.code, output.out, output.err.count("\n")) == (2, "", 1)
    assert output.err.startswith("error: No such option: --epoch")
    monkeypatch.setattr(sys, "argv", ["step", "--epochs", "2"])
    with pytest.raises(SystemExit) as raised:
        run(main)
    assert not raised.value.code and capsys.readouterr().out == "2\n"


def test_error_of_a_step_is_one_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise AudioCNNError("the clip is silent")

    monkeypatch.setattr(sys, "argv", ["step"])
    with pytest.raises(SystemExit) as raised:
        run(main)
    assert raised.value.code == 2 and capsys.readouterr().err == "error: the clip is silent\n"


def test_bug_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError), errors_to_exit():
        raise ZeroDivisionError


def test_full_disk_is_one_sentence_and_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit), errors_to_exit(), atomic_folder(tmp_path / "out"):
        full = os.open("/dev/full", os.O_WRONLY)
        try:
            os.write(full, b"x")
        finally:
            os.close(full)
    assert capsys.readouterr().err == "error: the disk is full; free some space and run the command again\n"
    assert not list(tmp_path.iterdir())


def test_file_size_limit_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-m", "components.ingest", "--output", str(tmp_path / "dataset")]
    limit = 100_000  # bytes; a clip has four times as many
    completed = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert completed.returncode == 2 and completed.stderr.count("\n") == 1
    assert completed.stderr.startswith("error: ") and "file is too large" in completed.stderr
    assert not list(tmp_path.iterdir())
