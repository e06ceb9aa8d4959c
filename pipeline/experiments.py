"""Folds, cross-validations and sweeps as the command line names them, checked before anything runs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from audiocnn.config import TrainSettings
from components.ingest.sources import parse_source
from components.plan_trials.grid import parse_grid, parse_numbers
from components.plan_trials.request import (
    SINGLE_TRIAL,
    PlanError,
    PlanRequest,
    check_calibration_fold,
    check_request,
    check_reserved,
    describe_reserved,
    join_numbers,
)
from mlops.settings import parse_overrides
from pipeline.settings import PipelineSettings, load


def crossval_request(
    settings: PipelineSettings,
    source: str,
    folds: str,
    seeds: int,
    trials: Mapping[str, Mapping[str, Any]] = SINGLE_TRIAL,
) -> PlanRequest:
    """Return the trainings of `trials` on `folds`: "all", or numbers such as "1,2,4".

    Raises:
        PlanError: the trainings are impossible, as far as this is known without the data.
        SettingsError: a fold is duplicated, or a trial changes a fold or a seed.
    """
    first = settings.train.seed
    values = {"folds": parse_numbers(folds, "--folds"), "seeds": [*range(first, first + seeds)], "trials": trials}
    request = PlanRequest.parse(values, "--folds and --grid")
    check_trainings(settings.train, request, source)
    return request


def check_trainings(settings: TrainSettings, request: PlanRequest, source: str) -> None:
    """Check a request, as far as possible without the data."""
    check_request(settings, request)
    known = parse_source(source).folds()
    if not known:
        return
    check_reserved(settings, known, source)
    remaining = [fold for fold in known if fold not in settings.reserved_folds]
    if len(remaining) < 2:
        raise PlanError(
            f"{describe_reserved(settings)} leaves {len(remaining)} of the folds {join_numbers(known)} "
            f"of {source}; at least two are needed, one to test on and one to train on"
        )
    if unknown := sorted(set(request.folds) - set(known)):
        raise PlanError(f"folds: {source} has no fold {unknown[0]}; its folds are {join_numbers(known)}")


def sweep_request(
    params: Path, assignments: Sequence[str], source: str, grid: Sequence[str], folds: str, seeds: int
) -> tuple[PipelineSettings, PlanRequest]:
    """Return the settings and the trainings of a grid, compared on folds that exclude the test fold.

    The fold that is held out is train.hold_out if set, else train.fold, else the highest fold of the source.

    Args:
        assignments: overrides that all trials share.
        grid: lines such as "train.max_lr=0.001,0.002".
        folds, seeds: as for `crossval_request`.
    """
    trials = parse_grid(params, assignments, grid)
    if len(trials) < 2:
        raise PlanError(f"the grid {' '.join(grid)} has one trial; a sweep compares several")
    overrides = parse_overrides([*assignments])
    settings = load(params, overrides)
    fold = settings.train.fold
    known = parse_source(source).folds()
    if known and fold not in known and "fold" not in overrides.get("train", {}):
        fold = known[-1]
    settings = settings.replace(train=settings.train.replace(hold_out=settings.train.hold_out or (fold,)))
    return settings, crossval_request(settings, source, folds, seeds, trials)


def check_fold(settings: TrainSettings, source: str) -> None:
    """Check the test fold of one training, as far as possible without the data."""
    if settings.fold in settings.hold_out:
        raise PlanError(f"train.hold_out: fold {settings.fold} is the test fold (train.fold); hold out other folds")
    check_calibration_fold(settings, (settings.fold,))
    known = parse_source(source).folds()
    if known and settings.fold not in known:
        raise PlanError(
            f"train.fold: {source} has no fold {settings.fold}; its folds are {join_numbers(known)}: choose one with "
            "FOLD= (make demo), --fold (audiocnn demo), --set train.fold= or the pipeline parameter fold"
        )
    if known:
        check_reserved(settings, known, source)
