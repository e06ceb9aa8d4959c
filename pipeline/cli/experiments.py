"""`audiocnn crossval` and `audiocnn sweep`: from what people type to a run, and what it led to."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from components.ingest import sources
from components.plan_trials import grid as grids
from components.plan_trials.step import PlanError, Request, check, require_held_out
from mlops.settings import parse_overrides
from pipeline import crossval
from pipeline import settings as pipeline_settings
from pipeline.cli.endpoint import near
from pipeline.compile import COMPILED
from pipeline.run import Run
from pipeline.settings import PipelineSettings

CROSSVAL = COMPILED / "crossval.yaml"


def crossval_arguments(
    settings: PipelineSettings,
    source: str,
    folds: str,
    seeds: int,
    shards: int,
    trials: Mapping[str, Mapping[str, Any]] = grids.AS_IT_IS,
) -> dict[str, Any]:
    """The pipeline's parameters for `trials` on `folds`, "all" or numbers, with `seeds` seeds from train.seed on.

    Raises:
        PlanError, SourceError: of no use, as far as that can be known beforehand.
    """
    first = settings.train.seed
    request = Request(grids.numbers(folds, "--folds"), range(first, first + seeds), trials)
    check(settings.train, request)
    if known := sources.known_folds(source):
        require_held_out(settings.train.hold_out, known, source)
        if len(left := [fold for fold in known if fold not in settings.train.hold_out]) < 2:
            raise PlanError(
                f"{source} has fold {', '.join(map(str, known))}, of which train.hold_out={[*settings.train.hold_out]} "
                f"leaves {len(left)}; two are needed, one to test on and another to train on"
            )
        if lost := sorted(set(request.folds) - set(known)):
            there = ", ".join(map(str, known))
            raise PlanError(f"--folds {folds}: there is no fold {lost[0]} in {source}; there are {there}")
    source = sources.pinned_by_content(source)
    return crossval.arguments(settings, source, request.folds, request.seeds, trials, shards)


def sweep_arguments(
    path: Path, assignments: Sequence[str], source: str, grid: Sequence[str], folds: str, seeds: int, shards: int
) -> dict[str, Any]:
    """The same for the trials of a grid, compared on the other folds than one that is held out.

    It is train.hold_out, if that is set, else train.fold, else the highest that the data is known to have.

    Args:
        path: params.yaml.
        assignments: overrides that all trials share.
    Raises:
        PlanError, ParamsError, SourceError: of no use.
    """
    trials = grids.trials(path, assignments, grid)
    if len(trials) < 2:
        raise PlanError(f"the grid {' '.join(grid)} holds one trial; a sweep compares several")
    overrides = parse_overrides([*assignments])
    settings = pipeline_settings.load(path, overrides)
    fold = settings.train.fold
    known = sources.known_folds(source)
    if known and fold not in known and "fold" not in overrides.get("train", {}):
        fold = known[-1]
    settings = settings.replace(train=settings.train.replace(hold_out=settings.train.hold_out or (fold,)))
    return crossval_arguments(settings, source, folds, seeds, shards, trials)


def conclude(run: Run, console: Console) -> None:
    """The pooled figures of a finished run, and where to read on."""
    pooled = run.output("aggregate", "pooled")
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
