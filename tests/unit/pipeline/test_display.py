"""What the progress display shows."""

import io
import re
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from rich.console import Console

from pipeline import display as display_module
from pipeline.display import Display, duration

CONTROL = re.compile(r"\x1b\[[?0-9;]*[a-zA-Z]")
TITLES = {"ingest": "Ingest clips", "train": "Train", "deploy": "Deploy"}


def set_clock(monkeypatch: pytest.MonkeyPatch, monotonic: Callable[[], float]) -> None:
    """Replace the clock of the display: steps of milliseconds take longer on a busy machine."""
    monkeypatch.setattr(display_module, "time", SimpleNamespace(monotonic=monotonic))


def show(terminal: bool) -> str:
    """Return the output of a run in which training runs twice and nothing is deployed."""
    out = io.StringIO()
    console = Console(file=out, width=80, force_terminal=terminal, color_system=None)
    with Display(TITLES, console) as display:
        display.start("ingest")
        display.show_line("[ingest] 50 clips [/b] in 10 classes")
        display.show_line("a line for the log")
        display.end("ingest", "done")
        for fold in (1, 2):
            display.start("train")
            display.show_line(f"[train] fold {fold}")
            display.end("train", "done" if fold == 1 else "failed")
    display.show_line("[train] after the run")
    return out.getvalue()


def test_a_terminal_shows_one_line_for_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    set_clock(monkeypatch, lambda: 7.0)
    ingest, train, deploy = (line.split() for line in CONTROL.sub("", show(terminal=True)).splitlines()[-3:])
    assert ingest == ["Ingest", "clips", "done", "0.0", "s", "50", "clips", "[/b]", "in", "10", "classes"]
    assert train == ["Train", "failed", "0.0", "s", "run", "2:", "fold", "2"]
    assert deploy == ["Deploy", "skipped"]


def test_plain_lines_are_shown_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    set_clock(monkeypatch, lambda: 7.0)
    assert show(terminal=False).splitlines() == [
        "ingest: Ingest clips",
        "[ingest] 50 clips [/b] in 10 classes",
        "ingest: done after 0.0 s",
        "train: Train",
        "[train] fold 1",
        "train: done after 0.0 s",
        "train: Train",
        "[train] fold 2",
        "train: failed after 0.0 s",
    ]


def test_a_line_has_the_time_of_its_run_and_the_table_that_of_all_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 2.0, 10.0, 13.0])
    set_clock(monkeypatch, lambda: next(clock))
    out = io.StringIO()
    display = Display(TITLES, Console(file=out, width=80))
    for _ in range(2):
        display.start("train")
        display.end("train", "done")
    assert [line for line in out.getvalue().splitlines() if "after" in line] == [
        "train: done after 2.0 s",
        "train: done after 3.0 s",
    ]
    assert display.steps["train"].seconds == 5.0


@pytest.mark.parametrize(("seconds", "text"), [(9.46, "9.5 s"), (99.9, "99.9 s"), (260, "4 m 20"), (3601, "60 m 01")])
def test_durations_are_rounded(seconds: float, text: str) -> None:
    assert duration(seconds) == text
