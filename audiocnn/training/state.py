"""The state of a training, which checkpoints contain."""

from dataclasses import asdict, dataclass
from typing import Any

import torch

from audiocnn.model import AudioCNN
from audiocnn.training.checkpoint import checkpoint_errors
from audiocnn.training.memory_format import match_memory_format


@dataclass(frozen=True)
class Epoch:
    """Metrics of one epoch. Accuracies are between 0 and 1; losses are cross-entropies in nats.

    Training metrics are measured on the augmented batches. Test metrics, None in epochs without an evaluation, are only
    for the curves; nothing is selected by them.
    """

    epoch: int
    lr: float
    train_loss: float
    train_accuracy: float
    test_loss: float | None
    test_accuracy: float | None


class TrainingState:
    """Everything that the final weights depend on. Random numbers follow from the seed, the epoch and the step.

    Attributes:
        history: the completed epochs.
        step: completed steps of the epoch after those in the history.
        lr: learning rate at the start of that epoch.
        sums: of that epoch over all processes, shape (4,): loss, correct clips, clips, steps with a non-finite loss.
    """

    def __init__(
        self, network: AudioCNN, optimizer: torch.optim.Optimizer, schedule: torch.optim.lr_scheduler.OneCycleLR
    ) -> None:
        self.network, self.optimizer, self.schedule = network, optimizer, schedule
        self.history: list[Epoch] = []
        self.start_epoch()

    @property
    def epoch(self) -> int:
        """The number of the epoch in progress, from 1."""
        return len(self.history) + 1

    def start_epoch(self) -> None:
        """Reset what counts within an epoch."""
        self.step = 0
        self.lr = float(self.schedule.get_last_lr()[0])
        self.sums = torch.zeros(4, device=next(self.network.parameters()).device)

    def to_dict(self) -> dict[str, Any]:
        """Return the state in the types that `checkpoint.encode` accepts."""
        schedule = self.schedule.state_dict().items()
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": {key: value for key, value in schedule if isinstance(value, int | float | list)},
            "history": [asdict(epoch) for epoch in self.history],
            "step": self.step,
            "lr": self.lr,
            "sums": self.sums,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Restore what `to_dict` returned.

        Raises:
            CheckpointError: the state belongs to another network or optimizer.
        """
        with checkpoint_errors():
            self.network.load_state_dict(state["network"])
            self.optimizer.load_state_dict(state["optimizer"])
            match_memory_format(self.optimizer)
            self.schedule.load_state_dict(state["schedule"])
            self.history = [Epoch(**epoch) for epoch in state["history"]]
            self.step, self.lr = int(state["step"]), float(state["lr"])
            self.sums = state["sums"].to(self.sums.device)
