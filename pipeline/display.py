"""The progress of a run: one line for each step in a terminal, plain lines elsewhere."""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

State = Literal["waiting", "running", "done", "failed", "interrupted", "skipped"]
STYLES: dict[State, str] = {
    "waiting": "dim",
    "running": "cyan",
    "done": "green",
    "failed": "bold red",
    "interrupted": "bold red",
    "skipped": "yellow",
}
MESSAGE = re.compile(r"\[[a-z_]+\] +(.*\S)")  # the lines that steps print for people


@dataclass
class Step:
    """One line of the display. A step in a loop runs several times; `seconds` are those of its completed runs."""

    title: str
    state: State = "waiting"
    message: str = ""
    started: float = 0.0
    seconds: float = 0.0
    runs: int = 0

    @property
    def elapsed(self) -> float:
        """Seconds of all runs, the present one included."""
        return self.seconds + (time.monotonic() - self.started if self.state == "running" else 0.0)


class Display:
    """Shows the steps of one run while it is used as a context manager."""

    def __init__(self, titles: Mapping[str, str], console: Console) -> None:
        self.steps = {name: Step(title) for name, title in titles.items()}
        self._console = console
        self._live = Live(
            get_renderable=self._table,
            console=console,
            refresh_per_second=4,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> "Display":
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        for step in self.steps.values():
            if step.state == "waiting":
                step.state = "skipped"
        self._live.stop()

    def start(self, name: str) -> None:
        step = self.steps[name]
        step.state, step.started, step.message = "running", time.monotonic(), ""
        step.runs += 1
        self._print(f"{name}: {step.title}")

    def show_line(self, line: str) -> None:
        """Show a line of output as the running step's newest message, if it is one."""
        running = next((name for name, step in self.steps.items() if step.state == "running"), None)
        if running and (match := MESSAGE.match(line)):
            self.steps[running].message = match[1]
            self._print(f"[{running}] {match[1]}")

    def end(self, name: str, state: State) -> None:
        step = self.steps[name]
        before = step.seconds
        step.seconds, step.state = step.elapsed, state
        self._print(f"{name}: {state} after {duration(step.seconds - before)}")

    def interrupt(self, name: str) -> None:
        """Show in the table that a step was interrupted; plain lines do not repeat it."""
        step = self.steps[name]
        step.seconds, step.state = step.elapsed, "interrupted"

    def _print(self, line: str) -> None:
        if not self._console.is_terminal:
            self._console.out(line, highlight=False)

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 1), expand=True)
        for width in (max(len(step.title) for step in self.steps.values()), max(map(len, STYLES))):
            table.add_column(width=width, no_wrap=True)
        table.add_column(justify="right", width=7, no_wrap=True)
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        for step in self.steps.values():
            seconds = duration(step.elapsed) if step.runs else ""
            message = f"run {step.runs}: {step.message}" if step.runs > 1 else step.message
            state = Text(step.state, style=STYLES[step.state])
            table.add_row(Text(step.title), state, Text(seconds, style="dim"), Text(message, style="dim"))
        return table


def duration(seconds: float) -> str:
    """Return seconds in words: "9.5 s", "4 m 20"."""
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds // 60:.0f} m {seconds % 60:02.0f}"
