"""What the log of a local run tells, line by line: which step runs, what it says, how it ends."""

import builtins
import importlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from audiocnn.errors import AudioCNNError
from pipeline.graph import Graph, Task

State = Literal["waiting", "running", "done", "failed", "skipped"]

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
STARTED = re.compile(r"[\d:.]+ - INFO - Executing task '(?P<task>[^']+)'")
ENDED = re.compile(
    r"[\d:.]+ - (?:INFO|ERROR) - Task '(?P<task>[^']+)' finished with status (?P<status>SUCCESS|FAILURE)"
)
SAID = re.compile(r" {4}\[(?P<step>[a-z_]+)\] (?P<message>.*\S)")
OUTPUT = re.compile(r' *"outputFile": "(?P<folder>.+)/[^/]+/executor_output\.json"')
TRACEBACK = re.compile(r"(?P<indent> *)Traceback \(most recent call last\):")
RAISED = re.compile(r"(?P<kind>[A-Za-z_][\w.]*)(?:: (?P<message>.*))?")
OURS = ("audiocnn", "components", "pipeline", "serving")


@dataclass
class Step:
    """One task of a run, as far as it has come; in a loop it runs several times, some of them at once.

    `active` of its executions run, and `ended` of them have ended well.
    """

    task: Task
    state: State = "waiting"
    message: str = ""
    started: float = 0.0
    seconds: float = 0.0
    active: int = 0
    ended: int = 0


@dataclass(frozen=True)
class Failure:
    """How a step ended: its last exception in words, and whether the person at the keyboard can mend the cause."""

    sentence: str
    mendable: bool


@dataclass
class Progress:
    """The state of a run; `feed` takes the log's lines as they appear and returns the step of which one tells news."""

    graph: Graph
    folder: Path | None = None  # of the run: one folder a step, one file or folder an output
    failure: Failure | None = None
    steps: dict[str, Step] = field(init=False)
    _trace: list[str] | None = None
    _indent: int = 0

    def __post_init__(self) -> None:
        self.steps = {task.name: Step(task) for task in self.graph.tasks}

    def feed(self, line: str, now: float) -> Step | None:
        """Take one line of the log, read at the time `now` in seconds."""
        line = COLOUR.sub("", line.rstrip("\n"))
        if match := STARTED.match(line):
            return self._start(self.steps[match["task"]], now)
        if match := ENDED.match(line):
            return self._end(self.steps[match["task"]], match["status"] == "SUCCESS", now)
        if match := TRACEBACK.fullmatch(line):
            self._trace, self._indent = [], len(match["indent"])
        elif self._trace is not None:
            self._trace.append(line[self._indent :])
        if self.folder is None and (match := OUTPUT.match(line)):
            self.folder = Path(match["folder"])
        if (match := SAID.fullmatch(line)) and (step := self._speaker(match["step"])):
            step.message = match["message"]
            return step
        return None

    def _speaker(self, word: str) -> Step | None:
        """The running step that a line begins with, else any that runs: a step need not speak under its own name."""
        named = self.steps.get(word)
        return named if named and named.state == "running" else self.running

    def finish(self) -> None:
        """The run is over: what never started was skipped, what never ended failed."""
        for step in self.steps.values():
            if step.state == "waiting":
                step.state = "skipped"
            elif step.state == "running":
                step.state = "failed"
        if self.failure is None and self._trace is not None:
            self.failure = explain(self._trace)

    @property
    def running(self) -> Step | None:
        """A step that runs, if one does; a local run has several at once only in a loop."""
        return next((step for step in self.steps.values() if step.state == "running"), None)

    def names(self, state: State) -> tuple[str, ...]:
        """The names of the steps in one state."""
        return tuple(name for name, step in self.steps.items() if step.state == state)

    def _start(self, step: Step, now: float) -> Step | None:
        if step.state == "waiting":
            step.started, step.message = now, ""
        if not self.running:
            self._trace = None
        step.active += 1
        if step.state == "failed":  # a loop may begin one more execution before it notices
            return None
        step.state = "running"
        return step

    def _end(self, step: Step, success: bool, now: float) -> Step | None:
        step.active, step.seconds = step.active - 1, now - step.started
        if success:
            step.ended += 1
            if step.state != "failed":
                step.state = "running" if step.active else "done"
                step.message = f"{step.ended} done" if step.task.repeated else step.message
        else:
            step.state = "failed"
            # The first failure is the cause to tell; what runs beside it may fail after it.
            self.failure = self.failure or explain(self._trace or [])
        if not success or not self.running:
            self._trace = None  # until then it may be that of an execution which runs beside this one
        return None if success and step.state == "failed" else step


def explain(trace: Iterable[str]) -> Failure:
    """The exception at the end of a traceback, whose first line is already taken off."""
    lines = list(_after_frames(trace))
    match = RAISED.fullmatch(lines[0]) if lines else None
    if match is None:
        return Failure("it ended without saying why; was it killed, or out of memory?", mendable=False)
    mendable = _mendable(match["kind"])
    message = "\n".join([match["message"] or "", *lines[1:]]).strip()
    return Failure(message if mendable and message else f"{match['kind']}: {message}".rstrip(": "), mendable)


def _after_frames(trace: Iterable[str]) -> Iterator[str]:
    """The exception's own lines: frames are indented, and what a process says later starts with a mark of its own."""
    begun = False
    for line in trace:
        if not begun and line.startswith("["):
            continue  # said by an execution that runs beside the one that failed
        if begun and (not line.strip() or line.startswith("[")):
            return
        if begun or (line.strip() and not line.startswith(" ")):
            begun = True
            yield line


def _mendable(kind: str) -> bool:
    """Whether an exception, named as tracebacks name it, is one that says how to mend its cause, or a system error."""
    module, _, name = kind.rpartition(".")
    if not module:
        return issubclass(getattr(builtins, name, Exception), OSError)
    if module.split(".")[0] not in OURS:
        return False
    return issubclass(getattr(importlib.import_module(module), name, Exception), AudioCNNError)
