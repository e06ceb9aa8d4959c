"""Local runs of toy pipelines in real processes: what ran, what failed and why, and what an interrupted run leaves."""

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from helpers.project import ROOT
from rich.console import Console

from components.ingest.sources import SourceError
from components.train.settings import TrainJobSettings
from mlops.runtime import sigterm_as_interrupt
from pipeline import graph
from pipeline.cli import demo
from pipeline.progress import Progress
from pipeline.run import Run, RunError, judge, run_docker, run_local
from pipeline.settings import PipelineSettings


def run(file: Path, **arguments: Any) -> tuple[Run, str]:
    out = io.StringIO()
    return run_local(arguments, file, Console(file=out, width=200)), out.getvalue()


def test_a_run_tells_which_tasks_ran_and_where_their_outputs_are(
    toys: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # KFP's own runner replaces the word python3 in paths.
    workplace = tmp_path / "my python3 work"
    workplace.mkdir()
    monkeypatch.chdir(workplace)
    done, shown = run(toys["gated"], word="go")
    assert (done.ran, done.skipped) == (("make", "judge", "act"), ())
    assert done.output("make", "made").read_text() == "go"
    assert done.folder.parent == workplace / "var" / "runs"
    assert f"[make] writing go in {workplace}" in shown and "act: done after" in shown
    assert "KFP Executor" in done.log.read_text() and "KFP Executor" not in shown


def test_a_closed_gate_skips_what_stands_behind_it(toys: dict[str, Path], workplace: Path) -> None:
    done, _ = run(toys["gated"], word="stay")
    assert (done.ran, done.skipped) == (("make", "judge"), ("act",))
    assert done.output("judge", "page").read_text() == "the reasons"


def test_a_terminal_shows_in_the_end_what_was_skipped_and_the_gate_that_did_it(
    toys: dict[str, Path], workplace: Path
) -> None:
    out = io.StringIO()
    run_local({"word": "stay"}, toys["gated"], Console(file=out, width=100, force_terminal=True, color_system=None))
    make, judge, act, *_ = out.getvalue()[out.getvalue().rindex("✓") :].splitlines()
    assert "✓" in make and "! judge" in judge and "– act" in act and "skipped" in act


@pytest.fixture
def runs(workplace: Path) -> Path:
    """Four earlier runs of the pipeline gated, number 3 the newest, and one of another pipeline."""
    runs = workplace / "var" / "runs"
    for number in range(4):
        (runs / f"gated-2026-01-0{number}" / "make").mkdir(parents=True)
        os.utime(runs / f"gated-2026-01-0{number}", (number, number))
    (runs / "gated-twice-2026-01-01").mkdir()
    return runs


def test_the_newest_runs_of_a_pipeline_are_kept(runs: Path, toys: dict[str, Path]) -> None:
    done, shown = run(toys["gated"], word="go")
    kept = {path.name for path in runs.iterdir() if path.is_dir()}
    assert kept == {"gated-2026-01-02", "gated-2026-01-03", done.folder.name, "gated-twice-2026-01-01"}
    assert "Removed var/runs/gated-2026-01-00, var/runs/gated-2026-01-01: the newest 3 runs that ended well" in shown


def test_runs_that_failed_cost_no_report_of_one_that_ended_well(
    toys: dict[str, Path], workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    well = [run(toys["gated"], word="go")[0].folder for _ in range(3)]
    broken = workplace / "gated.yaml"  # the step make fails: its output is a folder that is not there
    broken.write_text(toys["gated"].read_text().replace("Path(made.path).write_text(word)", "raise OSError(word)"))
    failed = []
    for word in "abc":
        with pytest.raises(RunError, match=word):
            run(broken, word=word)
        failed.append((set(well[0].parent.glob("gated-*")) - {*well, *failed}).pop())
    assert all(folder.is_dir() for folder in well)
    assert [folder.is_dir() for folder in failed] == [False, True, True]
    newest, _ = run(toys["gated"], word="go")
    assert set(newest.folder.parent.glob("gated-*")) == {*well[1:], newest.folder, failed[-1]}


def test_no_run_is_removed_while_another_one_is_under_way(runs: Path, toys: dict[str, Path], workplace: Path) -> None:
    program = asleep(toys["sleeping"], workplace / "marker")
    try:
        _, shown = run(toys["gated"], word="go")
    finally:
        program.send_signal(signal.SIGINT)
        program.communicate(timeout=60)
    assert "Removed" not in shown and (runs / "gated-2026-01-00").is_dir()


@pytest.mark.parametrize(
    ("how", "status", "sentence"),
    [
        ("mendable", 2, "clip 7 lasts 0.01 s; remove it\nclip 8 too"),
        ("killed", 1, "it ended without saying why"),
    ],
)
def test_a_failing_step_is_named_with_its_error_and_the_log(
    how: str, status: int, sentence: str, toys: dict[str, Path], workplace: Path
) -> None:
    with pytest.raises(RunError) as raised:
        run(toys["failing"], how=how)
    message = str(raised.value)
    assert message.startswith("Fail on purpose: ") and sentence in message
    assert raised.value.status == status
    log = Path(message.rpartition("The whole log: ")[2])
    assert log.read_text().count("[fail] about to") == 1, "KFP would try again after a minute"


def test_several_nodes_are_for_a_cluster(tiny: PipelineSettings, workplace: Path) -> None:
    arguments = demo.run_arguments(tiny, "demo", trainjob=TrainJobSettings(nodes=2))
    with pytest.raises(RunError, match=r"trainjob\.nodes: .* `audiocnn submit` has --nodes"):
        run_local(arguments)
    assert not list(workplace.glob("var/logs/*"))


def test_a_loop_begins_no_further_item_after_one_has_failed(toys: dict[str, Path], workplace: Path) -> None:
    with pytest.raises(RunError, match="each: item 0 is too short") as raised:
        run(toys["looping"], items=[0, 1, 2, 3, 4, 5])
    log = Path(str(raised.value).rpartition("The whole log: ")[2]).read_text()
    # Two run at once; what had begun goes on to its end.
    assert "[each] item 1" in log and log.count("[each] item ") == 2


def test_a_loop_whose_items_all_fail_tells_of_those_that_ran(toys: dict[str, Path], workplace: Path) -> None:
    out = io.StringIO()
    with pytest.raises(RunError, match="each: item 0 is too short"):
        run_local({"items": [0] * 6}, toys["looping"], Console(file=out, width=200))
    (log,) = (workplace / "var" / "logs").iterdir()
    assert out.getvalue().count("each: failed after") == log.read_text().count("[each] item 0") <= 2


def test_a_run_leaves_nothing_in_the_folder_for_temporary_files(
    toys: dict[str, Path], workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = workplace / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr("tempfile.tempdir", None)
    run(toys["gated"], word="go")
    assert list(temporary.iterdir()) == []


def test_a_parameter_that_the_pipeline_does_not_have_is_refused(toys: dict[str, Path], workplace: Path) -> None:
    with pytest.raises(RunError, match="no such parameter: wrod; there are: word"):
        run(toys["gated"], wrod="go")


@pytest.mark.parametrize("local", ["clips", "clips.zip"])
def test_containers_see_a_source_on_this_machine_and_the_credentials_of_remotes(
    local: str, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict] = []
    monkeypatch.setattr("pipeline.run._watch", lambda request, *_: asked.append(request))
    for name in ("AWS_ENDPOINT_URL", "AUDIOCNN_DVC_REMOTE", "SECRET_OF_ANOTHER"):
        monkeypatch.setenv(name, "x")
    if local.endswith(".zip"):
        (workplace / local).touch()
    else:
        (workplace / local / "audio").mkdir(parents=True)
        (workplace / local / "meta").mkdir()
        (workplace / local / "meta" / "esc50.csv").touch()
    for name in ("demo", "dvc", "esc50"):
        (workplace / name).mkdir()  # no sources, though they are folders
    for source in (local, "demo", "dvc", "esc50", "s3://bucket/x"):
        run_docker({"source": source})
    sources = [request["arguments"]["source"] for request in asked]
    assert sources == [str(workplace / local), "demo", "dvc", "esc50", "s3://bucket/x"]
    var = (str(workplace / "var"), True)
    mounts = [request["container"]["mounts"] for request in asked]
    assert mounts == [[var, (str(workplace / local), False)], *[[var]] * 4]
    passed = asked[0]["container"]["environment"]
    assert {"AWS_ENDPOINT_URL", "AUDIOCNN_DVC_REMOTE"} < set(passed) and "SECRET_OF_ANOTHER" not in passed


@pytest.mark.parametrize("runner", [run_local, run_docker])
def test_a_source_that_is_not_there_starts_nothing(runner: Callable[..., Run], workplace: Path) -> None:
    with pytest.raises(SourceError, match="nowhere': there is no such file or folder"):
        runner({"source": "nowhere"})
    assert not (workplace / "var" / "runs").exists()


@pytest.fixture
def ended(toys: dict[str, Path], tmp_path: Path) -> Progress:
    """A run whose log says that the first two tasks succeeded, and whose gate said go."""
    progress = Progress(graph.read(toys["gated"]))
    for name in ("make", "judge"):
        progress.steps[name].state = "done"
        (tmp_path / name).mkdir()
    (tmp_path / "judge" / "executor_output.json").write_text(json.dumps({"parameterValues": {"Output": "go"}}))
    progress.folder = tmp_path
    return progress


def test_a_gate_that_kfp_skipped_although_it_was_open_is_no_success(ended: Progress, tmp_path: Path) -> None:
    ended.finish()
    with pytest.raises(RunError, match="act did not run although judge said 'go'"):
        judge(ended, tmp_path / "log", 0)


def test_a_task_that_ran_behind_a_closed_gate_is_no_success(ended: Progress, tmp_path: Path) -> None:
    ended.steps["act"].state = "done"
    (tmp_path / "judge" / "executor_output.json").write_text(json.dumps({"parameterValues": {"Output": "stay"}}))
    with pytest.raises(RunError, match="act ran although judge said 'stay'"):
        judge(ended, tmp_path / "log", 0)


def test_a_task_that_never_ran_is_no_success(ended: Progress, tmp_path: Path) -> None:
    ended.steps["make"].state = "skipped"
    with pytest.raises(RunError, match="Make something did not run"):
        judge(ended, tmp_path / "log", 0)


def test_a_worker_that_failed_outside_every_task_is_no_success(ended: Progress, tmp_path: Path) -> None:
    ended.steps["act"].state = "done"
    with pytest.raises(RunError, match="gated: it ended without saying why"):
        judge(ended, tmp_path / "log", 1)


PROGRAM = """
import sys
from pathlib import Path
from pipeline.cli import exits
from pipeline.run import run_local
import typer
def main(file: Path, markers: list[str]):
    with exits():
        run_local({"markers": markers} if "dozing" in file.name else {"marker": markers[0]}, file)
typer.run(main)
"""


def asleep(file: Path, *markers: Path) -> subprocess.Popen[str]:
    """A program in the middle of a run: its steps sleep."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-c", PROGRAM, str(file), *map(str, markers)]
    program = subprocess.Popen(
        command, cwd=markers[0].parent, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert program.stdout is not None
    for _ in markers[:2]:  # so many run at once
        while "asleep" not in (line := program.stdout.readline()):
            assert line, program.communicate()
    return program


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_run_lets_its_step_tidy_up_and_leaves_no_process(
    number: signal.Signals, toys: dict[str, Path], tmp_path: Path
) -> None:
    program = asleep(toys["sleeping"], tmp_path / "marker")
    family = psutil.Process(program.pid).children(recursive=True)
    assert len(family) >= 3  # worker, shell, step
    program.send_signal(number)
    _, errors = program.communicate(timeout=60)
    assert program.returncode == 130 and "interrupted" in errors and "Traceback" not in errors
    assert (tmp_path / "marker").read_text() == "tidy"
    assert not psutil.wait_procs(family, timeout=5)[1]


def test_a_run_that_was_started_in_the_background_lets_its_step_tidy_up_too(
    toys: dict[str, Path], tmp_path: Path
) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell's & does
    try:
        program = asleep(toys["sleeping"], tmp_path / "marker")
    finally:
        signal.signal(signal.SIGINT, before)
    program.send_signal(signal.SIGTERM)
    program.communicate(timeout=60)
    assert program.returncode == 130 and (tmp_path / "marker").read_text() == "tidy"


def test_a_run_ends_with_a_command_line_that_was_killed(toys: dict[str, Path], tmp_path: Path) -> None:
    program = asleep(toys["sleeping"], tmp_path / "marker")
    family = psutil.Process(program.pid).children(recursive=True)
    program.kill()
    program.communicate(timeout=60)
    assert not psutil.wait_procs(family, timeout=60)[1]
    assert (tmp_path / "marker").read_text() == "tidy"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_end_of_a_loop_is_no_occasion_to_begin_what_still_waits(
    number: signal.Signals, toys: dict[str, Path], tmp_path: Path
) -> None:
    markers = [tmp_path / f"marker{item}" for item in range(5)]
    program = asleep(toys["dozing"], *markers)
    family = psutil.Process(program.pid).children(recursive=True)
    program.send_signal(number)
    program.communicate(timeout=60)
    assert not psutil.wait_procs(family, timeout=60)[1]
    (log,) = (tmp_path / "var" / "logs").iterdir()
    assert log.read_text().count("asleep") == 2 and log.read_text().count("Executing task") == 2
    assert [marker.exists() for marker in markers] == [True, True, False, False, False]


def test_nohup_keeps_its_meaning_and_a_second_signal_does_not_cut_off_the_tidying_up() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with pytest.raises(KeyboardInterrupt), sigterm_as_interrupt():
            os.kill(os.getpid(), signal.SIGHUP)
            try:
                os.kill(os.getpid(), signal.SIGTERM)
            finally:
                os.kill(os.getpid(), signal.SIGTERM)
                tidied = True
    finally:
        signal.signal(signal.SIGHUP, before)
    assert tidied and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
