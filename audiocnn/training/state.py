"""The state of a training, which checkpoints contain."""

from dataclasses import asdict, dataclass
from typing import Any

import torch

from audiocnn.model import AudioCNN
from audiocnn.training.averaging import AveragedWeights
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

    Its tensors are changed in place, since a CUDA graph refers to them.

    Attributes:
        average: the moving average of the weights, if the training has one.
        history: the completed epochs.
        step: completed steps of the epoch after those in the history.
        sums: of that epoch over all processes, shape (4,): loss, correct clips, clips, steps with a non-finite loss.
    """

    def __init__(
        self, network: AudioCNN, optimizer: torch.optim.Optimizer, average: AveragedWeights | None = None
    ) -> None:
        self.network, self.optimizer, self.average = network, optimizer, average
        self.history: list[Epoch] = []
        self.step = 0
        self.sums = torch.zeros(4, device=next(network.parameters()).device)

    @property
    def epoch(self) -> int:
        """The number of the epoch in progress, from 1."""
        return len(self.history) + 1

    @property
    def result(self) -> AudioCNN:
        """The network that is evaluated and saved: the averaged one, if there is one."""
        return self.network if self.average is None else self.average.network

    def finish_epoch(self, epoch: Epoch) -> None:
        """Add an epoch to the history, and start the next one."""
        self.history.append(epoch)
        self.step = 0
        self.sums.zero_()

    def to_dict(self) -> dict[str, Any]:
        """Return the state in the types that `checkpoint.encode` accepts."""
        return {
            "network": self.network.state_dict(),
            "moments": self.optimizer.state_dict()["state"],
            "average": None if self.average is None else self.average.network.state_dict(),
            "history": [asdict(epoch) for epoch in self.history],
            "step": self.step,
            "sums": self.sums,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Restore what `to_dict` returned.

        Raises:
            CheckpointError: the state belongs to another network or optimizer.
        """
        with checkpoint_errors():
            self.network.load_state_dict(state["network"])
            # The options of the optimizer follow from the settings and the device, which may be another one now.
            options = self.optimizer.state_dict()["param_groups"]
            self.optimizer.load_state_dict({"state": state["moments"], "param_groups": options})
            match_memory_format(self.optimizer)
            if self.average is not None:
                self.average.network.load_state_dict(state["average"])
            self.history = [Epoch(**epoch) for epoch in state["history"]]
            self.step = int(state["step"])
            self.sums.copy_(state["sums"])
