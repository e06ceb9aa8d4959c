"""The runner's reading of a log."""

from pathlib import Path

import pytest
from helpers.toy_pipelines import ENDED, STARTED

from pipeline import graph
from pipeline.progress import Failure, Progress, explain


@pytest.fixture
def progress(toys: dict[str, Path]) -> Progress:
    return Progress(graph.read(toys["gated"]))


def test_steps_wait_run_speak_and_end(progress: Progress) -> None:
    assert progress.names("waiting") == ("make", "judge", "act")
    progress.feed(STARTED.format("make"), 10.0)
    assert progress.running is progress.steps["make"]
    assert progress.feed("    [make] 3 of 4\n", 11.0) is progress.steps["make"]
    progress.feed("    [KFP Executor 2026-11-23 19:16:23,051 INFO]: Looking\n", 11.0)
    progress.feed("    any other line\n", 11.0)
    assert progress.steps["make"].message == "3 of 4"
    progress.feed(ENDED.format("INFO", "make", "SUCCESS"), 12.5)
    assert (progress.steps["make"].state, progress.steps["make"].seconds) == ("done", 2.5)


def test_a_step_of_a_loop_ends_with_its_last_execution_and_fails_with_any(progress: Progress) -> None:
    make = progress.steps["make"]
    for now in (1.0, 1.5):
        progress.feed(STARTED.format("make"), now)
    progress.feed(ENDED.format("INFO", "make", "SUCCESS"), 2.0)
    assert make.state == "running"
    progress.feed(STARTED.format("make"), 2.0)
    progress.feed(ENDED.format("INFO", "make", "SUCCESS"), 3.0)
    progress.feed(ENDED.format("INFO", "make", "SUCCESS"), 4.0)
    assert (make.state, make.seconds) == ("done", 3.0)
    progress.feed(STARTED.format("make"), 4.0)
    progress.feed(ENDED.format("ERROR", "make", "FAILURE"), 5.0)
    assert make.state == "failed"
    progress.feed(STARTED.format("make"), 5.0)
    progress.feed(ENDED.format("INFO", "make", "SUCCESS"), 6.0)
    assert make.state == "failed"


@pytest.fixture
def loop(toys: dict[str, Path]) -> Progress:
    """Two executions of a loop's one step, of which the first has failed with its traceback under way."""
    progress = Progress(graph.read(toys["looping"]))
    for line in (STARTED.format("each"), STARTED.format("each"), "    Traceback (most recent call last):\n"):
        progress.feed(line, 0.0)
    return progress


def test_the_lines_of_an_execution_beside_it_do_not_hide_why_one_failed(loop: Progress) -> None:
    loop.feed('      File "x.py", line 1, in f\n', 1.0)
    loop.feed("    [each] item 1\n", 1.0)
    loop.feed("    audiocnn.audio.Empty: no sample\n", 1.0)
    loop.feed(ENDED.format("INFO", "each", "SUCCESS"), 1.0)
    loop.feed(ENDED.format("ERROR", "each", "FAILURE"), 2.0)
    assert loop.failure == Failure("no sample", mendable=True)
    assert loop.steps["each"].state == "failed"


def test_the_first_failure_of_a_loop_is_told(loop: Progress) -> None:
    loop.feed("    audiocnn.audio.Empty: no sample\n", 1.0)
    loop.feed(ENDED.format("ERROR", "each", "FAILURE"), 2.0)
    loop.feed(ENDED.format("ERROR", "each", "FAILURE"), 3.0)
    assert loop.failure == Failure("no sample", mendable=True)


def test_a_loop_counts_the_executions_that_ended_well(toys: dict[str, Path]) -> None:
    progress = Progress(graph.read(toys["looping"]))
    for line in (STARTED, STARTED, ENDED):
        progress.feed(line.format(*("INFO", "each", "SUCCESS") if line is ENDED else ("each",)), 1.0)
    step = progress.steps["each"]
    assert (step.state, step.ended, step.active, step.message) == ("running", 1, 1, "1 done")


def test_a_line_is_of_the_step_that_it_names_where_several_run(progress: Progress) -> None:
    for name in ("make", "judge"):
        progress.feed(STARTED.format(name), 0.0)
    assert progress.feed("    [judge] thinking\n", 1.0) is progress.steps["judge"]
    assert progress.feed("    [helper] at work\n", 1.0) is progress.steps["make"]


def test_what_never_started_was_skipped_and_what_never_ended_failed(progress: Progress) -> None:
    progress.feed(STARTED.format("make"), 0.0)
    progress.feed(ENDED.format("INFO", "make", "SUCCESS"), 1.0)
    progress.feed(STARTED.format("judge"), 1.0)
    progress.finish()
    assert [step.state for step in progress.steps.values()] == ["done", "failed", "skipped"]


def test_the_folder_of_a_run_is_read_from_what_kfp_hands_to_a_step(progress: Progress) -> None:
    progress.feed('                "outputFile": "/var/runs/gated-1/judge/Output"\n', 0.0)
    progress.feed('        "outputFile": "/var/runs/gated-1/judge/executor_output.json"\n', 0.0)
    assert progress.folder == Path("/var/runs/gated-1")


def test_an_error_of_ours_is_told_in_its_own_words() -> None:
    trace = ['  File "x.py", line 1, in f', "    g()", "    ^^^", "audiocnn.audio.Empty: the clip holds no sample"]
    assert explain(trace) == Failure("the clip holds no sample", mendable=True)


def test_all_lines_of_an_error_are_told_and_nothing_after_it() -> None:
    trace = ["  frame", "audiocnn.audio.Silent: 2 clips", "- a.wav: silent", "", "19:16 - INFO - more"]
    assert explain(trace) == Failure("2 clips\n- a.wav: silent", mendable=True)


@pytest.mark.parametrize(
    "line",
    [
        "ValueError: a bug",
        "KeyError: 'x'",
        "kfp.dsl.Thing: other",
        "audiocnn.audio.Gone: no such class",
        "AssertionError",
    ],
)
def test_what_nobody_at_the_keyboard_can_mend_keeps_its_kind(line: str) -> None:
    assert explain(["  frame", line]) == Failure(line, mendable=False)


def test_an_error_of_the_system_can_be_mended() -> None:
    assert explain(["FileNotFoundError: [Errno 2] No such file: 'x'"]).mendable


def test_a_step_that_says_nothing_may_have_been_killed() -> None:
    assert "killed" in explain([]).sentence
