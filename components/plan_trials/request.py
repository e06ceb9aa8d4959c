"""What a cross-validation or sweep trains: folds, seeds and trials."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, Field, field_validator

from audiocnn.config import NonNegativeInt, TrainSettings, without_duplicates
from audiocnn.errors import AudioCNNError
from audiocnn.strict_model import StrictModel

SINGLE_TRIAL: Mapping[str, Mapping[str, Any]] = {"unchanged": {}}  # the trials of a cross-validation
# Keys of the block train that no trial may change.
COMMON_KEYS = ("fold", "seed", "hold_out", "calibration_fold", "leave_out")


class PlanError(AudioCNNError):
    """Trainings that are impossible or whose results could not be compared."""


class PlanRequest(StrictModel):
    """Every trial is trained on every fold with every seed.

    Attributes:
        folds: test folds; empty for all that are not held out.
        seeds: at least one.
        trials: by name, what each changes in the block `train`, nested like the block. The key `recipe` names the
            recipe that the changes come from.
    """

    folds: Annotated[tuple[NonNegativeInt, ...], AfterValidator(without_duplicates)]
    seeds: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1), AfterValidator(without_duplicates)]
    trials: Annotated[dict[str, dict[str, Any]], Field(min_length=1)]

    @field_validator("trials")
    @classmethod
    def _check_trials(cls, trials: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for trial, changes in trials.items():
            if common := [key for key in COMMON_KEYS if key in changes]:
                raise ValueError(
                    f"trial {trial!r} sets train.{common[0]}, but trials are compared on the same folds and seeds"
                )
            if set(changes) == {"recipe"}:
                raise ValueError(
                    f"trial {trial!r} names a recipe without its settings; add them, or use `--grid recipe=...`"
                )
        return trials

    @property
    def is_sweep(self) -> bool:
        """Whether trials are compared; else it is a cross-validation."""
        return len(self.trials) > 1


def check_request(settings: TrainSettings, request: PlanRequest) -> None:
    """Check a request as far as possible without the data."""
    if request.is_sweep and not settings.hold_out:
        raise PlanError(
            f"train.hold_out is empty, but {len(request.trials)} trials are compared: the best one is selected by its "
            "scores, so it must be tested on another fold; hold one out with --set train.hold_out=[FOLD]"
        )
    check_calibration_fold(settings, request.folds)
    if held_out := sorted(set(request.folds) & set(settings.hold_out)):
        raise PlanError(
            f"folds: fold {held_out[0]} is held out (train.hold_out={[*settings.hold_out]}), so it cannot be a test "
            "fold; remove it from one of the two"
        )
    trial_settings(settings, request)


def check_calibration_fold(settings: TrainSettings, tested: Sequence[int]) -> None:
    """Check that the calibration fold has no other role; `tested` are the test folds."""
    if settings.calibration_fold in (*tested, *settings.hold_out):
        raise PlanError(
            f"train.calibration_fold: fold {settings.calibration_fold} is a test fold or in train.hold_out, and "
            "nothing may be fitted on it; choose another fold"
        )


def describe_reserved(settings: TrainSettings) -> str:
    calibration = (
        "" if settings.calibration_fold is None else f" with train.calibration_fold={settings.calibration_fold}"
    )
    return f"train.hold_out={[*settings.hold_out]}{calibration}"


def check_reserved(settings: TrainSettings, known: Sequence[int], data: str) -> None:
    """Check that the data has the reserved folds; `known` are its folds, and `data` names it in the error."""
    if settings.calibration_fold is not None and settings.calibration_fold not in known:
        raise PlanError(
            f"train.calibration_fold: {data} has no fold {settings.calibration_fold}; its folds are "
            f"{join_numbers(known)}"
        )
    if unknown := sorted(set(settings.hold_out) - set(known)):
        raise PlanError(
            f"train.hold_out: {data} has no fold {unknown[0]}; its folds are {join_numbers(known)}; hold out "
            f"one of them with --set train.hold_out=[{known[-1]}] (a sweep holds out train.fold by default)"
        )


def trial_settings(settings: TrainSettings, request: PlanRequest) -> dict[str, TrainSettings]:
    """Return the block `train` of each trial, by the name of the trial.

    Raises:
        PlanError: two trials have the same settings.
        SettingsError: a trial has an unknown key or an invalid value.
    """
    trials: dict[str, TrainSettings] = {}
    for trial, changes in request.trials.items():
        keys = {key: value for key, value in changes.items() if key != "recipe"}
        changed = settings.merged_with(keys, f"trial {trial}")
        if same := [other for other, known in trials.items() if known == changed]:
            raise PlanError(f"the trials {same[0]!r} and {trial!r} have the same settings; remove one of them")
        trials[trial] = changed
    return trials


def join_numbers(values: Sequence[int]) -> str:
    return ", ".join(map(str, values))
