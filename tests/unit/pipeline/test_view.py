"""The live view, as a terminal and as a pipe see it."""

import io
from pathlib import Path

from helpers.toy_pipelines import ENDED, STARTED
from rich.console import Console

from pipeline import graph
from pipeline.progress import Progress
from pipeline.view import Lines, LiveTable, duration, view


def show(toys: dict[str, Path], terminal: bool) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=70, color_system=None)
    progress = Progress(graph.read(toys["gated"]))
    with view(console, progress) as shown:
        lines = [
            STARTED.format("make"),
            "    [make] 3 of 4 [weird/markup]\n",
            ENDED.format("INFO", "make", "SUCCESS"),
            STARTED.format("judge"),
            ENDED.format("ERROR", "judge", "FAILURE"),
        ]
        for second, line in enumerate(lines):
            if step := progress.feed(line, float(second)):
                shown.changed(step)
        progress.finish()
    return out.getvalue()


def test_a_pipe_gets_plain_lines(toys: dict[str, Path]) -> None:
    assert show(toys, terminal=False).splitlines() == [
        "make: Make something",
        "[make] 3 of 4 [weird/markup]",
        "make: done after 2.0 s",
        "judge: judge",
        "judge: failed after 1.0 s",
    ]


def test_a_terminal_ends_with_one_line_a_step(toys: dict[str, Path]) -> None:
    shown = show(toys, terminal=True)
    make, judge, act, *_ = shown[shown.rindex("✓") :].splitlines()
    assert "Make something" in make and "2.0 s" in make and "[weird/markup]" in make
    assert "✗" in judge and "1.0 s" in judge
    assert "–" in act and "skipped" in act


def test_a_loop_tells_how_often_it_has_ended(toys: dict[str, Path]) -> None:
    progress = Progress(graph.read(toys["looping"]))
    out = io.StringIO()
    lines, table = Lines(Console(file=out, width=70)), io.StringIO()
    started, ended = STARTED.format("each"), ENDED.format("INFO", "each", "SUCCESS")
    for line in (started, started, ended, "    [each] item 2\n"):
        if step := progress.feed(line, 1.0):
            lines.changed(step)
    Console(file=table, width=70).print(LiveTable(progress))
    assert "1 done, item 2" in table.getvalue()
    lines.changed(progress.feed(ended, 2.0))
    assert out.getvalue().splitlines()[2:] == ["[each] 1 done", "[each] item 2", "each: done 2 times after 1.0 s"]


def test_durations_read_well() -> None:
    assert [duration(seconds) for seconds in (0.04, 9.46, 99.9, 260.2)] == ["0.0 s", "9.5 s", "99.9 s", "4 m 20"]
