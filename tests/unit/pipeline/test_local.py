"""The local runner, with steps of milliseconds: order, output, errors and interrupts."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from helpers.project import ROOT

from audiocnn.errors import TooShort
from components.ingest.sources import SourceError
from components.plan_trials.request import SINGLE_TRIAL, PlanRequest
from mlops.artifacts import DecisionFolder, DecisionRecord
from pipeline import local
from pipeline.local import Run, run_crossval, run_training, start_run
from pipeline.run_folders import UNFINISHED, RunError
from pipeline.settings import PipelineSettings
from pipeline.steps import TRAINING_STEPS


def write(output: Path, **inputs: Any) -> None:
    output.write_text(str(inputs))


def run_ingest(function: Callable[..., None], **inputs: Any) -> Run:
    """Run a pipeline of the step ingest, followed by train."""
    functions = {"ingest": function, "train": write}
    with start_run("training", list(functions), lambda folder: functions) as run:
        run.step("ingest", **inputs)
        run.step("train")
    return run


def test_run_has_an_output_for_each_step(workplace: Path) -> None:
    run = run_ingest(write, source="clips")
    assert run.executed == ["ingest", "train"]
    assert run.folder.parent == workplace / "var" / "runs"
    assert run.output("ingest") == run.folder / "ingest" / "dataset"
    assert run.output("ingest").read_text() == "{'source': 'clips'}"
    assert not (run.folder / UNFINISHED).exists()


def test_log_has_all_output_and_display_the_messages(workplace: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def ingest(output: Path) -> None:
        print("[ingest] checked 1/2 clips", flush=True)
        print("details", file=sys.stderr)
        os.write(2, b"from a C library\n")
        subprocess.run(["sh", "-c", "echo from a child process >&2"], check=True)
        print("[checkpoints] kept")

    run = run_ingest(ingest)
    lines = run.log.read_text().splitlines()
    assert {"details", "from a C library", "from a child process", "[ingest] checked 1/2 clips"} <= set(lines)
    shown, errors = capfd.readouterr()
    assert errors == ""
    *messages, done, following = shown.splitlines()[:5]
    assert messages == ["ingest: Ingest clips", "[ingest] checked 1/2 clips", "[ingest] kept"]
    assert re.fullmatch(r"ingest: done after \d+\.\d s", done) and following == "train: Train"


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (TooShort("clip 7 lasts 0.01 s; remove it\nclip 8 too"), 2, "clip 7 lasts 0.01 s; remove it\nclip 8 too"),
        (FileNotFoundError(2, "No such file", "x.wav"), 2, "x.wav: "),
        (ValueError("shapes differ"), 1, "ValueError: shapes differ"),
    ],
)
def test_error_names_the_step_and_the_log(error: Exception, status: int, message: str, workplace: Path) -> None:
    def ingest(output: Path) -> None:
        error.add_note("Failed training: fold 3")
        raise error

    with pytest.raises(RunError) as raised:
        run_ingest(ingest)
    text = str(raised.value)
    assert text.startswith(f"Ingest clips: {message}") and "Failed training: fold 3" in text
    assert (raised.value.status, raised.value.step) == (status, "ingest")
    log = Path(text.rpartition("The whole log: ")[2])
    assert not log.is_absolute() and "Traceback" in log.read_text()
    (folder,) = Path("var/runs").glob("training-*")
    assert (folder / UNFINISHED).exists() and not (folder / "train").exists()


def test_output_is_restored_after_a_run(workplace: Path, capfd: pytest.CaptureFixture[str]) -> None:
    stdout, stderr = sys.stdout, sys.stderr
    run_ingest(write)
    assert (sys.stdout, sys.stderr) == (stdout, stderr)
    os.write(2, b"after the run\n")
    assert capfd.readouterr().err == "after the run\n"


@pytest.mark.parametrize("outcome", ["promote", "keep", "refuse", "wait"])
def test_only_a_promoted_model_is_deployed(
    outcome: Any, tiny: PipelineSettings, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def promote(output: Path, **_: Path) -> None:
        output.mkdir()
        record = DecisionRecord(
            outcome=outcome,
            reasons=(),
            name="audiocnn",
            challenger=2,
            champion=1,
            comparison=None,
            policy={},
            decided_at="2026-01-01T00:00:00Z",
        )
        DecisionFolder(output).write(record, "")

    functions = {**dict.fromkeys(TRAINING_STEPS, write), "promote": promote}
    monkeypatch.setattr(local, "step_functions", lambda *_: functions)
    executed = list(TRAINING_STEPS if outcome == "promote" else TRAINING_STEPS[:-1])
    run = run_training(tiny, "demo")
    assert run.executed == executed
    inputs = run.output("evaluate").read_text()
    assert str(run.output("train")) in inputs and str(run.output("spectrograms")) in inputs


def test_missing_source_starts_nothing(tiny: PipelineSettings, workplace: Path) -> None:
    with pytest.raises(SourceError, match="nowhere': no such file or folder"):
        run_training(tiny, "nowhere")
    with pytest.raises(SourceError, match="nowhere': no such file or folder"):
        run_crossval(tiny, "nowhere", PlanRequest(folds=(), seeds=(0,), trials=SINGLE_TRIAL))
    assert not Path("var").exists()


PROGRAM = """
import time
from pathlib import Path

import typer

from pipeline.cli.options import handle_errors
from pipeline.local import start_run


def sleep(output):
    try:
        print("[ingest] asleep", flush=True)
        time.sleep(120)
    except BaseException:
        time.sleep(0.5)
        Path("cleaned-up").touch()
        raise


def main():
    with handle_errors(), start_run("training", ["ingest"], lambda folder: {"ingest": sleep}) as run:
        run.step("ingest")


typer.run(main)
"""


def start_sleeping(folder: Path) -> subprocess.Popen[str]:
    """Start a run in another process, whose step sleeps."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    (folder / "program.py").write_text(PROGRAM, encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "program.py"],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    while "asleep" not in (line := process.stdout.readline()):
        assert line, process.communicate()
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_run_cleans_up(number: signal.Signals, workplace: Path) -> None:
    process = start_sleeping(workplace)
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and (workplace / "cleaned-up").exists()
    assert (output, errors) == ("", "interrupted; incomplete output was removed\n")


def test_background_run_can_be_terminated(workplace: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell's & does
    try:
        process = start_sleeping(workplace)
    finally:
        signal.signal(signal.SIGINT, before)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 130 and (workplace / "cleaned-up").exists()


def test_no_run_is_removed_while_another_process_writes_it(workplace: Path) -> None:
    process = start_sleeping(workplace)
    (active,) = Path("var/runs").glob("training-*")
    try:
        for _ in range(3):
            with pytest.raises(RunError):
                run_ingest(lambda output: 1 / 0)  # type: ignore[arg-type, return-value]
        assert active.is_dir() and len(list(Path("var/runs").glob("training-*"))) == 2
        assert psutil.pid_exists(process.pid)
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
