"""`audiocnn crossval` and `audiocnn sweep`: from what people type to a run, and what it led to."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from audiocnn.params import Params
from components.command import load_params
from components.ingest import sources
from components.plan import grid as grids
from components.plan.step import PlanError
from pipeline import crossval
from pipeline.compile import COMPILED
from pipeline.endpoint import near
from pipeline.run import Run

CROSSVAL = COMPILED / "crossval.yaml"


def crossval_arguments(settings: Params, source: str, folds: str, seeds: int, shards: int) -> dict[str, Any]:
    """The pipeline's parameters for one trial on `folds`, "all" or numbers, with `seeds` seeds from train.seed on.

    Raises:
        PlanError, SourceError: of no use.
    """
    first = settings.train.seed
    numbers = grids.numbers(folds, "--folds")
    source = sources.pinned_by_content(source)
    return crossval.arguments(settings, source, numbers, range(first, first + seeds), shards=shards)


def sweep_arguments(
    params: Path, assignments: Sequence[str], source: str, grid: Sequence[str], folds: str, seeds: int, shards: int
) -> dict[str, Any]:
    """The same for the trials of a grid. They are compared on the folds other than the test fold, which is held out.

    Raises:
        PlanError, ParamsError, SourceError: of no use.
    """
    trials = grids.trials(params, assignments, grid)
    if len(trials) < 2:
        raise PlanError(f"the grid {' '.join(grid)} holds one trial; a sweep compares several")
    settings = load_params(params, [*assignments])
    held_out = settings.train.hold_out or (settings.train.fold,)
    settings = replace(settings, train=replace(settings.train, hold_out=held_out))
    given = crossval_arguments(settings, source, folds, seeds, shards)
    return {**given, "trials": trials}


def conclude(run: Run, console: Console) -> None:
    """The pooled figures of a finished run, and where to read on."""
    pooled = run.output("pool", "pooled")
    console.print()
    trials = pd.read_csv(pooled / "trials.csv", keep_default_na=False)
    console.print(_table(trials, pd.read_csv(pooled / "trainings.csv", keep_default_na=False)))
    console.print()
    for what, how in {"Report": near(pooled / "report.html"), "Runs, one under the other": "make mlflow"}.items():
        console.print(f"{what:<27}{how}", soft_wrap=True, highlight=False, markup=False)


def _table(trials: pd.DataFrame, trainings: pd.DataFrame) -> Table:
    """One row a trial; where there is one only, one row a training and one of all."""
    shown = Table(title_justify="left")
    rows = [("all" if len(trials) == 1 else row.trial, row) for row in trials.itertuples()]
    if len(trials) == 1:
        seeds = trainings["seed"].nunique() > 1
        named = [(f"fold {row.fold}" + (f", seed {row.seed}" if seeds else ""), row) for row in trainings.itertuples()]
        rows = [*named, *rows]
    for column in ("", "accuracy", "interval", "loss", "clips"):
        shown.add_column(column, justify="right" if column else "left")
    for name, row in rows:
        interval = f"{row.accuracy_low:.1%} to {row.accuracy_high:.1%}"
        shown.add_row(str(name), f"{row.accuracy:.1%}", interval, f"{row.loss:.3f}", f"{row.clips}")
    return shown
