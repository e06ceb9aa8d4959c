"""The files and folders that steps hand on: read, written and validated here and nowhere else."""

from audiocnn.config import TrainSettings
from audiocnn.strict_model import StrictModel


class TrainingRequest(StrictModel):
    """One training.

    Attributes:
        recipe: name of the recipe that the settings come from.
        settings: the block `train`.
        trial: of several trainings, what this one tries, in a few words.
        parent_run: id of the MLflow run that this training's run is nested in. The checkpoint of a training with a
            parent is kept at its end, so that a restart of all of them does not repeat it; the step aggregate removes
            it.
    """

    recipe: str
    settings: TrainSettings
    trial: str = ""
    parent_run: str = ""

    @property
    def name(self) -> str:
        """Describe the training among its siblings: "max_lr=0.001, fold 2, seed 0"."""
        return ", ".join([*filter(None, [self.trial]), f"fold {self.settings.fold}, seed {self.settings.seed}"])
