"""The work of the step plan."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audiocnn.config import TrainSettings
from audiocnn.data.clips import folds as folds_of
from audiocnn.data.clips import split
from audiocnn.data.spectrogram_set import SpectrogramSet
from audiocnn.errors import AudioCNNError
from audiocnn.strict_model import MAX_INTEGER
from mlops import tracking
from mlops.artifacts import TrainingRequest
from mlops.provenance import git_revision

FIXED = ("fold", "seed", "hold_out")  # keys of the block train in which the trials must not differ


class PlanError(AudioCNNError):
    """Trainings that cannot be planned so."""


@dataclass(frozen=True)
class Request:
    """What to train: every trial on every fold with every seed.

    folds: each is tested on once; none means all that train.hold_out leaves.
    seeds: each gives a training of its own.
    trials: by name, what each changes in the block train, nested as there, and with `recipe` the name of the recipe
        that the changes come from; {"as it is": {}} tries only that.
    """

    folds: Sequence[int]
    seeds: Sequence[int]
    trials: Mapping[str, Mapping[str, Any]]

    def __post_init__(self) -> None:
        for name in ("folds", "seeds"):
            _distinct(name, getattr(self, name))
        if not self.seeds:
            raise PlanError("seeds: none is given, so there is nothing to train")
        if not self.trials:
            raise PlanError("trials: none is given, so there is nothing to train")
        for trial, changes in self.trials.items():
            refuse_fixed(trial, changes)
            if set(changes) == {"recipe"}:
                raise PlanError(
                    f"trial {trial!r} changes nothing but the recipe's name: the recipe's keys are in the settings already; "
                    "give the keys that differ, or let `audiocnn submit --grid recipe=...` find them"
                )

    @property
    def chooses(self) -> bool:
        """Whether it compares trials: a sweep; else it is a cross-validation."""
        return len(self.trials) > 1


def plan_trials(spectrograms: Path, recipe: str, settings: TrainSettings, request: Request) -> list[dict[str, Any]]:
    """List the trainings, and begin the MLflow run that all of theirs will stand under.

    Returns:
        a TrainingRequest, as a dictionary, for each training.
    Raises:
        PlanError: the request cannot be met.
        DatasetError, ParamsError, TrackingError: see there.
    """
    check(settings, request)
    data = SpectrogramSet.open(spectrograms)
    there = folds_of(data.clips)
    require_held_out(settings.hold_out, there, "the data")
    folds = list(request.folds) or [fold for fold in there if fold not in settings.hold_out]
    if not folds:
        raise PlanError(f"train.hold_out leaves none of the folds {_listed(there)}")
    trainings = [
        (trial, own_recipe or recipe, changed.replace(fold=fold, seed=seed))
        for changed, (trial, own_recipe) in _tried(settings, request).items()
        for seed in request.seeds
        for fold in folds
    ]
    for fold in folds:
        split(data.clips, fold, settings.hold_out)
    parent = _begin(data, recipe, settings, request, folds)
    planned = [
        TrainingRequest(
            recipe=of_recipe, settings=each, trial=trial if request.chooses else "", parent_run=parent.run_id
        ).to_dict()
        for trial, of_recipe, each in trainings
    ]
    with parent.ended_by_errors():
        parent.text(json.dumps(planned, indent=2) + "\n", "plan.json")
    held = f", fold {_listed(settings.hold_out)} held out" if settings.hold_out else ""
    print(
        f"[plan] {len(planned)} trainings: {len(request.trials)} trials on fold {_listed(folds)} "
        f"with seed {_listed(request.seeds)}{held}",
        flush=True,
    )
    return planned


def check(settings: TrainSettings, request: Request) -> None:
    """Hold a request against the settings: all that can be known of it without the data.

    Raises:
        PlanError, ParamsError: it cannot be met.
    """
    if request.chooses and not settings.hold_out:
        raise PlanError(
            f"{len(request.trials)} trials, and train.hold_out is empty: the best would be chosen by the very folds "
            "that it is tested on; hold one out"
        )
    if held := sorted(set(request.folds) & set(settings.hold_out)):
        raise PlanError(
            f"folds: fold {held[0]} is held out, so nothing is tested on it; leave it out of the folds, or of "
            f"train.hold_out, which is {[*settings.hold_out]}"
        )
    _tried(settings, request)


def require_held_out(held: Sequence[int], there: Sequence[int], data: str) -> None:
    """Raises PlanError where a fold that is to be held out is not among those that `data`, in words, has."""
    if lost := sorted(set(held) - set(there)):
        raise PlanError(
            f"train.hold_out: there is no fold {lost[0]} in {data}; there are folds {_listed(there)}: hold out one of "
            f"them with --set train.hold_out=[{there[-1]}] (a sweep that is given none holds out train.fold)"
        )


def refuse_fixed(trial: str, changes: Mapping[str, Any]) -> None:
    """Raises PlanError where a trial changes what all of them must share to be compared."""
    if fixed := [key for key in FIXED if key in changes]:
        raise PlanError(f"trial {trial!r} sets train.{fixed[0]}: trials are compared on the same folds and seeds")


def _tried(settings: TrainSettings, request: Request) -> dict[TrainSettings, tuple[str, str]]:
    """Return the settings of each trial, with its name and the name of its recipe if it changes it."""
    tried: dict[TrainSettings, tuple[str, str]] = {}
    for trial, changes in request.trials.items():
        keys = {key: value for key, value in changes.items() if key != "recipe"}
        changed = settings.change(keys, f"trial {trial}")
        if changed in tried:
            raise PlanError(f"the trials {tried[changed][0]!r} and {trial!r} are the same")
        tried[changed] = (trial, str(changes.get("recipe", "")))
    return tried


def _begin(
    data: SpectrogramSet, recipe: str, settings: TrainSettings, request: Request, folds: Sequence[int]
) -> tracking.Run:
    """The MLflow run of the whole. It is left running: the step pool ends it, or a training that fails."""
    described = data.spec["dataset"]
    kind = "sweep" if request.chooses else "cross-validation"
    return tracking.start_run(
        name=f"{described['source']} {recipe} {kind}",
        params={
            "recipe": recipe,
            "train": {key: value for key, value in settings.to_dict().items() if key not in ("fold", "seed")},
            "spectrograms": data.settings.to_dict(),
            "folds": _listed(folds),
            "seeds": _listed(request.seeds),
            "trials": len(request.trials),
        },
        tags={"git_revision": git_revision(), "kind": kind},
        lineage=tracking.Lineage(**described),
    )


def whole(values: Sequence[Any]) -> list[Any]:
    """The values with 1.0 as 1: KFP carries every number of a list as a double."""
    return [int(value) if isinstance(value, float) and value.is_integer() else value for value in values]


def _distinct(name: str, values: Sequence[Any]) -> None:
    for value in values:
        if not isinstance(value, int) or value < 0:
            raise PlanError(f"{name}: expected whole numbers from 0 on, found {value!r}")
        if value > MAX_INTEGER:
            raise PlanError(f"{name}: {value} is beyond 2**53, the largest whole number that is kept")
    if len(set(values)) < len(values):
        raise PlanError(f"{name}: one stands there twice: {_listed(values)}")


def _listed(values: Sequence[int]) -> str:
    return ", ".join(map(str, values))
