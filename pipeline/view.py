"""The live view of a run: one line a step in a terminal, plain lines elsewhere."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Protocol

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from pipeline.progress import Progress, Step

MARKS = {
    "waiting": Text("·", style="dim"),
    "done": Text("✓", style="green"),
    "failed": Text("✗", style="bold red"),
    "skipped": Text("–", style="yellow"),
}
SHUT = Text("!", style="yellow")  # a gate that let nothing through
STYLES = {"waiting": "dim", "skipped": "dim", "failed": "red"}


class View(Protocol):
    """Called with the step that the last line of the log was about."""

    def changed(self, step: Step) -> None: ...


@contextmanager
def view(console: Console, progress: Progress) -> Iterator[View]:
    """Show `progress` until the block ends."""
    if not console.is_terminal:
        yield Lines(console)
        return
    table = LiveTable(progress)
    with Live(table, console=console, refresh_per_second=8):
        yield table


class LiveTable:
    """All steps, redrawn several times a second, so that the clock and the spinner move."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.spinner = Spinner("dots", style="cyan")

    def changed(self, step: Step) -> None:
        """Nothing to do: the next redraw shows it."""

    def __rich__(self) -> Table:
        shut = {
            step.task.gate.task for step in self.progress.steps.values() if step.state == "skipped" and step.task.gate
        }
        starting = all(step.state == "waiting" for step in self.progress.steps.values())
        table = Table.grid(padding=(0, 1), expand=True)
        table.add_column(width=1)
        table.add_column(width=max(len(step.task.title) for step in self.progress.steps.values()), no_wrap=True)
        table.add_column(justify="right", width=7, no_wrap=True)
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        for step in self.progress.steps.values():
            style = STYLES.get(step.state, "")
            seconds = monotonic() - step.started if step.state == "running" else step.seconds
            mark = SHUT if step.state == "done" and step.task.name in shut else MARKS.get(step.state)
            table.add_row(
                self.spinner if starting or mark is None else mark,
                Text(step.task.title, style=style),
                Text(duration(seconds) if seconds else "", style="dim"),
                Text("skipped" if step.state == "skipped" else _message(step), style="dim"),
            )
        return table


def _message(step: Step) -> str:
    """What the step said last; in a loop, after how often it has ended."""
    ended = f"{step.ended} done"
    if not step.task.repeated or not step.ended or step.message == ended:
        return step.message
    return f"{ended}, {step.message}"


class Lines:
    """A log's worth of lines, for CI and pipes."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def changed(self, step: Step) -> None:
        """Print what is new."""
        if step.state in ("done", "failed"):
            times = f" {step.ended} times" if step.state == "done" and step.ended > 1 else ""
            text = f"{step.task.name}: {step.state}{times} after {duration(step.seconds)}"
            if step.state == "failed" and step.active:
                text += f"; waiting for {step.active} more that had begun"
        else:
            text = f"[{step.task.name}] {step.message}" if step.message else f"{step.task.name}: {step.task.title}"
        self.console.out(text, highlight=False)


def duration(seconds: float) -> str:
    """Seconds as people say them: 9.5 s, 4 m 20."""
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds // 60:.0f} m {seconds % 60:02.0f}"
