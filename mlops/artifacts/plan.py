"""The plan of a cross-validation or sweep: `plan.json`, one TrainingRequest per training."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from audiocnn.atomic import atomic_file
from audiocnn.config import TrainSettings
from audiocnn.strict_model import StrictModel
from mlops.artifacts.base_folder import ArtifactError, json_text, parse_record, read_json

STEP = "plan_trials"


class TrainingRequest(StrictModel):
    """One training.

    Attributes:
        recipe: name of the recipe that the settings come from.
        settings: the block `train`.
        trial: name of the trial in a sweep, empty for other trainings.
        parent_run: id of the MLflow run that this training's run is nested in, empty for a single training. The
            checkpoint of a training with a parent is kept when the training ends, so that a restarted sweep does not
            repeat it; the step aggregate deletes it.
    """

    recipe: str
    settings: TrainSettings
    trial: str = ""
    parent_run: str = ""

    @property
    def name(self) -> str:
        """Name the training among its siblings: "max_lr=0.001, fold 2, seed 0"."""
        return ", ".join([*filter(None, [self.trial]), f"fold {self.settings.fold}, seed {self.settings.seed}"])


def parse_plan(entries: Any, where: str) -> list[TrainingRequest]:
    """Validate a plan that was read from JSON or from a pipeline parameter.

    Args:
        entries: one dictionary per training.
        where: the source of the plan, for error messages.
    Raises:
        ArtifactError: the plan is empty or invalid.
    """
    if not isinstance(entries, list) or not entries:
        raise ArtifactError(f"{where}: expected a list of at least one training; run the step {STEP} again")
    return [
        parse_record(entry, TrainingRequest, f"{where}: training {number}", STEP)
        for number, entry in enumerate(entries, start=1)
    ]


def plan_json(plan: Sequence[TrainingRequest]) -> str:
    return json_text([request.to_dict() for request in plan])


def read_plan(path: Path) -> list[TrainingRequest]:
    """Read `plan.json`.

    Raises:
        ArtifactError: the file is missing or invalid.
    """
    return parse_plan(read_json(path, STEP), str(path))


def write_plan(path: Path, plan: Sequence[TrainingRequest]) -> None:
    with atomic_file(path) as part:
        part.write_text(plan_json(plan), encoding="utf-8")
