"""The step plan_trials: list the trainings of a cross-validation or sweep."""

from collections.abc import Sequence
from pathlib import Path

from audiocnn.config import TrainSettings
from audiocnn.data.clips import folds as folds_of
from audiocnn.data.clips import split
from audiocnn.data.spectrogram_set import SpectrogramSet
from components.plan_trials.request import (
    PlanError,
    PlanRequest,
    check_request,
    check_reserved,
    describe_reserved,
    join_numbers,
    trial_settings,
)
from mlops import tracking
from mlops.artifacts import TrainingRequest, plan_json
from mlops.provenance import git_revision


def plan_trials(
    spectrograms: Path, recipe: str, settings: TrainSettings, request: PlanRequest
) -> list[TrainingRequest]:
    """Return the trainings of a cross-validation or sweep, and start the MLflow run that they are nested in.

    Args:
        settings: the block `train` of the recipe; fold and seed are set for each training.
    Raises:
        PlanError: the request does not fit the settings or the data.
        DatasetError: the spectrograms cannot be read, or a fold cannot be a test fold.
    """
    check_request(settings, request)
    data = SpectrogramSet.open(spectrograms)
    folds = _test_folds(data, settings, request)
    parent = _start_run(data, recipe, settings, request, folds)
    plan = [
        TrainingRequest(
            recipe=request.trials[trial].get("recipe", recipe),
            settings=changed.replace(fold=fold, seed=seed),
            trial=trial if request.is_sweep else "",
            parent_run=parent.run_id,
        )
        for trial, changed in trial_settings(settings, request).items()
        for seed in request.seeds
        for fold in folds
    ]
    with parent.end_on_error():
        parent.log_text(plan_json(plan), "plan.json")
    trials = f"{len(request.trials)} trials, " if request.is_sweep else ""
    held_out = f", fold {join_numbers(settings.hold_out)} held out" if settings.hold_out else ""
    print(
        f"[plan_trials] {len(plan)} training{'s'[: len(plan) != 1]}: {trials}{settings.fold_role} "
        f"{join_numbers(folds)}, seed {join_numbers(request.seeds)}{held_out}",
        flush=True,
    )
    return plan


def _test_folds(data: SpectrogramSet, settings: TrainSettings, request: PlanRequest) -> list[int]:
    """Return the requested test folds, by default all that are not held out, after checking them against the data."""
    known = folds_of(data.clips)
    check_reserved(settings, known, "the data")
    folds = list(request.folds) or [fold for fold in known if fold not in settings.reserved_folds]
    if not folds:
        raise PlanError(
            f"{describe_reserved(settings)} leaves none of the folds {join_numbers(known)}; hold out fewer folds"
        )
    for fold in folds:
        split(data.clips, **{**settings.roles, "fold": fold})
    return folds


def _start_run(
    data: SpectrogramSet, recipe: str, settings: TrainSettings, request: PlanRequest, folds: Sequence[int]
) -> tracking.Run:
    """Start the parent run. The step aggregate ends it, or a training that fails."""
    dataset = data.spec["dataset"]
    kind = "sweep" if request.is_sweep else "cross-validation"
    common = {name: value for name, value in settings.to_dict().items() if name not in ("fold", "seed")}
    return tracking.start_run(
        name=f"{dataset['source']} {recipe} {kind}",
        description=f"{kind} of recipe {recipe}, folds {join_numbers(folds)}, seeds {join_numbers(request.seeds)}",
        params={
            "recipe": recipe,
            "train": common,
            "spectrograms": data.settings.to_dict(),
            "folds": join_numbers(folds),
            "seeds": join_numbers(request.seeds),
            "trials": len(request.trials),
        },
        tags={"git_revision": git_revision(), "kind": kind},
        lineage=tracking.Lineage(**dataset),
    )
