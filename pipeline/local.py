"""Run a pipeline on this machine: the step functions of components/, called in order in this process.

The KFP graphs (training.py, crossval.py) run the same steps on a cluster; a test compares both.
"""

import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import partial
from io import TextIOBase
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console

from audiocnn.errors import AudioCNNError
from components.aggregate.step import aggregate
from components.deploy.step import deploy
from components.evaluate.step import evaluate
from components.ingest.sources import Source, parse_source
from components.ingest.step import ingest
from components.plan_trials.request import PlanRequest
from components.plan_trials.step import plan_trials
from components.promote.step import promote
from components.register.step import register
from components.spectrograms.step import spectrograms
from components.train.step import train, train_many, trainings_side_by_side
from mlops.artifacts import DecisionFolder, TrainingRequest, read_plan, write_plan
from mlops.command_line import os_error_message
from pipeline.containers import container_steps, find_engine
from pipeline.display import Display
from pipeline.endpoint import endpoint_start
from pipeline.run_folders import RunError, run_folder
from pipeline.settings import PipelineSettings
from pipeline.steps import CROSSVAL_STEPS, OUTPUTS, TITLES, TRAINING_STEPS

StepFunctions = Mapping[str, Callable[..., Any]]


def run_training(settings: PipelineSettings, source: str, containers: bool = False) -> "Run":
    """Run the training pipeline: ingest to promote, and deploy if the model was promoted.

    Args:
        containers: run each step in the pipeline's container image.
    """
    parsed = _existing_source(source)
    engine = find_engine() if containers else ""

    def functions(folder: Path) -> StepFunctions:
        return container_steps(engine, settings, parsed, folder) if engine else step_functions(settings, parsed)

    with start_run("training", TRAINING_STEPS, functions) as run:
        dataset = run.step("ingest")
        spectrogram_set = run.step("spectrograms", dataset=dataset)
        model = run.step("train", spectrograms=spectrogram_set)
        evaluation = run.step("evaluate", model=model, spectrograms=spectrogram_set, dataset=dataset)
        version = run.step("register", model=model, evaluation=evaluation, dataset=dataset)
        decision = run.step(
            "promote", registration=version, model=model, evaluation=evaluation, spectrograms=spectrogram_set
        )
        if DecisionFolder(decision).record().outcome == "promote":
            run.step("deploy", dataset=dataset)
    return run


def run_crossval(settings: PipelineSettings, source: str, request: PlanRequest, together: int | None = None) -> "Run":
    """Run a cross-validation or a sweep: all trainings, then one report on them.

    Args:
        together: trainings that run side by side; by default as many as the GPU's memory holds, without one a single
            one.
    """
    parsed = _existing_source(source)
    pipeline = "sweep" if request.is_sweep else "crossval"
    with start_run(pipeline, CROSSVAL_STEPS, lambda _: step_functions(settings, parsed)) as run:
        dataset = run.step("ingest")
        spectrogram_set = run.step("spectrograms", dataset=dataset)
        plan = read_plan(run.step("plan_trials", spectrograms=spectrogram_set, request=request))
        together = together or trainings_side_by_side(spectrogram_set, plan)
        models, evaluations = [], []
        for first in range(0, len(plan), together):
            requests = plan[first : first + together]
            folders = [f"training-{first + number}" for number in range(1, len(requests) + 1)]
            models += run.step_many("train", folders, spectrograms=spectrogram_set, requests=requests)
            for folder in folders:
                inputs = {"model": run.output("train", folder), "spectrograms": spectrogram_set, "dataset": dataset}
                evaluations.append(run.step("evaluate", folder, **inputs))
        run.step("aggregate", plan=plan, models=models, evaluations=evaluations)
    return run


def _existing_source(text: str) -> Source:
    source = parse_source(text)
    source.require_exists()
    return source


def step_functions(settings: PipelineSettings, source: Source) -> StepFunctions:
    """Return the step functions by name, with their settings bound."""

    def write_plan_of_trials(spectrograms: Path, request: PlanRequest, output: Path) -> None:
        write_plan(output, plan_trials(spectrograms, settings.recipe, settings.train, request))

    request = TrainingRequest(recipe=settings.recipe, settings=settings.train)
    return {
        "ingest": partial(ingest, source.pinned(), settings.ingest, settings.spectrograms),
        "spectrograms": partial(spectrograms, settings=settings.spectrograms, cache=settings.storage.cache),
        "train": partial(train, request=request, checkpoints=settings.storage.checkpoints),
        "train_many": partial(train_many, checkpoints=settings.storage.checkpoints),
        "evaluate": partial(evaluate, settings=settings.evaluate),
        "register": partial(register, settings=settings.register),
        "promote": partial(promote, settings=settings.promote),
        "deploy": partial(deploy, settings.register.name, settings=settings.deploy, start=endpoint_start(settings)),
        "plan_trials": write_plan_of_trials,
        "aggregate": partial(aggregate, settings=settings.evaluate, checkpoints=settings.storage.checkpoints),
    }


class Run:
    """One run of a pipeline.

    Attributes:
        folder: contains the output of each step, as STEP/OUTPUT.
        log: file with the whole output of all steps.
        executed: names of the steps that succeeded, in order, each once.
    """

    def __init__(self, folder: Path, log: Path, functions: StepFunctions, display: Display, stream: TextIO) -> None:
        self.folder, self.log = folder, log
        self.executed: list[str] = []
        self._functions, self._display, self._stream = functions, display, stream

    def output(self, step: str, subfolder: str = "") -> Path:
        return self.folder / subfolder / step / OUTPUTS[step]

    def seconds(self, step: str) -> float:
        return self._display.steps[step].seconds

    def step(self, name: str, subfolder: str = "", **inputs: Any) -> Path:
        """Run a step and return its output; `subfolder` is for a step that runs several times.

        Raises:
            RunError: the step failed.
        """
        output = self.output(name, subfolder)
        self._execute(name, partial(self._functions[name], **inputs, output=output), [output])
        return output

    def step_many(self, name: str, subfolders: Sequence[str], **inputs: Any) -> list[Path]:
        """Run a step once for several subfolders, by the function `name`_many, and return its outputs."""
        outputs = [self.output(name, subfolder) for subfolder in subfolders]
        self._execute(name, partial(self._functions[f"{name}_many"], **inputs, outputs=outputs), outputs)
        return outputs

    def _execute(self, name: str, function: Callable[[], None], outputs: Sequence[Path]) -> None:
        for output in outputs:
            output.parent.mkdir(parents=True)
        self._display.start(name)
        try:
            with redirect_output(self._stream, self._display.show_line):
                function()
        except Exception as error:
            traceback.print_exc(file=self._stream)
            self._display.end(name, "failed")
            raise self._explain(name, error) from error
        except BaseException:  # Ctrl-C, which the command line reports
            traceback.print_exc(file=self._stream)
            self._display.interrupt(name)
            raise
        self._display.end(name, "done")
        if name not in self.executed:
            self.executed.append(name)

    def _explain(self, name: str, error: Exception) -> RunError:
        fixable = isinstance(error, AudioCNNError | OSError)
        if isinstance(error, OSError):
            message = os_error_message(error)
        else:
            message = str(error) if fixable else f"{type(error).__name__}: {error}"
        lines = [f"{TITLES[name]}: {message}", *getattr(error, "__notes__", []), f"The whole log: {self.log}"]
        return RunError("\n".join(lines), name, 2 if fixable else 1)


@contextmanager
def start_run(pipeline: str, steps: Sequence[str], functions: Callable[[Path], StepFunctions]) -> Iterator[Run]:
    """Open the folder, the log and the display of a run; `functions` returns the step functions for its folder."""
    titles = {name: TITLES[name] for name in steps}
    with (
        run_folder(pipeline) as (folder, log),
        # Line by line and appended: C libraries and child processes write to the same file.
        log.open("a", encoding="utf-8", buffering=1) as stream,
        Display(titles, Console(file=sys.stdout)) as display,
    ):
        yield Run(folder, log, functions(folder), display, stream)


@contextmanager
def redirect_output(stream: TextIO, on_line: Callable[[str], None]) -> Iterator[None]:
    """Redirect all output to a file while the block runs, and report each line that Python code prints.

    C libraries and child processes write to the file descriptor 2, which is redirected too.
    """
    writer = _LineWriter(stream, on_line)
    stderr = os.dup(2)
    os.dup2(stream.fileno(), 2)
    try:
        with redirect_stdout(writer), redirect_stderr(writer):
            yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


class _LineWriter(TextIOBase):
    def __init__(self, stream: TextIO, on_line: Callable[[str], None]) -> None:
        self._stream, self._on_line, self._rest = stream, on_line, ""

    def write(self, text: str) -> int:
        if self._stream.closed:  # a logging handler may keep this writer after its run
            return len(text)
        self._stream.write(text)
        *lines, self._rest = re.split(r"[\r\n]", self._rest + text)
        for line in lines:
            self._on_line(line)
        return len(text)

    def fileno(self) -> int:
        return self._stream.fileno()
