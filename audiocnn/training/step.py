"""One step of a training: the next batch, its gradients, the update of the weights."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiocnn.config import TrainSettings
from audiocnn.data.batches import Batch, Batches, ResidentBatches
from audiocnn.model import BandNorm
from audiocnn.training.augmentation import augment, one_hot
from audiocnn.training.distributed import ProcessGroup
from audiocnn.training.forward import forward
from audiocnn.training.random_numbers import DropoutNumbers
from audiocnn.training.schedule import Schedule
from audiocnn.training.state import TrainingState
from audiocnn.training.tables import EpochTables


class TrainingStep:
    """The step of one training, on every device.

    Between two steps, only tensors on the device change: the position in the tables, weights, moments and sums. So a
    CUDA graph can contain the whole step, except for `update` if AdamW's beta1 changes, which is a constant there.

    Args:
        state: changed in place by every step.
        parallel: the state's network, or its wrapper for several processes.
        train: the training clips.
    """

    def __init__(
        self,
        state: TrainingState,
        parallel: nn.Module,
        train: Batches,
        settings: TrainSettings,
        schedule: Schedule,
        group: ProcessGroup,
    ) -> None:
        self._state, self._parallel, self._train, self._settings = state, parallel, train, settings
        self._schedule, self._group = schedule, group
        self.tables = EpochTables(train.clips, train.batch_size, settings, train.device)
        self.dropout = DropoutNumbers(train.device)
        self.beta1_is_constant = not settings.cycle_momentum

    @property
    def gradients(self) -> list[Tensor | None]:
        """The gradients of all weights."""
        return [weight.grad for weight in self._state.network.parameters()]

    @gradients.setter
    def gradients(self, gradients: list[Tensor | None]) -> None:
        for weight, gradient in zip(self._state.network.parameters(), gradients, strict=True):
            weight.grad = gradient

    @property
    def first_lr(self) -> float:
        """The learning rate of the epoch's first step."""
        return float(self._schedule.lr[(self._state.epoch - 1) * self.tables.steps])

    def start_epoch(self) -> Tensor:
        """Fill the tables for the state's epoch and step, and return the order of the clips, on the CPU."""
        self._parallel.train()
        return self.tables.fill(self._state.epoch, self._state.step, self._schedule)

    def prepare(self) -> None:
        """Set what the next step reads outside of the device: the seed of dropout and a changing beta1."""
        epoch, step = self._state.epoch, self._state.step
        self.dropout.seed(self._settings.seed, epoch, step, self._group.rank)
        if not self.beta1_is_constant:
            group = self._state.optimizer.param_groups[0]
            beta1 = float(self._schedule.beta1[(epoch - 1) * self.tables.steps + step])
            group["betas"] = (beta1, group["betas"][1])

    def run(self, clips: int | None = None, batch: Batch | None = None) -> None:
        """Learn from the next clips.

        Args:
            clips: their number, by default a full batch.
            batch: their spectrograms and labels, if they are streamed.
        """
        self.compute_gradients(clips, batch)
        self.update()

    def compute_gradients(self, clips: int | None = None, batch: Batch | None = None) -> None:
        """Set the gradients of the next clips, and add their losses to the state's sums. See `run`."""
        positions = self.tables.positions(clips or self._train.batch_size)
        spectrograms, labels = batch or self._select(positions)
        # Every process augments the whole batch, so that the mixing partners do not depend on the number of processes.
        network, settings = self._state.network, self._settings
        targets = one_hot(labels, network.n_classes)
        if isinstance(network.normalise, BandNorm):
            spectrograms = network.normalise.clamp(spectrograms)
        params = self.tables.params[positions]
        with self.dropout.in_use():
            loss, sums = self._loss(*augment(spectrograms, targets, params, settings.augment))
        self._state.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._state.sums += sums

    def _select(self, positions: Tensor) -> Batch:
        assert isinstance(self._train, ResidentBatches), "streamed clips come with their batch"
        return self._train.select(self.tables.order[positions])

    def _loss(self, spectrograms: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Run the forward pass on this process's share of an augmented batch.

        Returns:
            the loss to backpropagate, and the batch's addition to TrainingState.sums.
        """
        clips, group = len(targets), self._group
        targets = group.shard(targets)
        logits = forward(self._parallel, group.shard(spectrograms), self._settings)
        smoothing = self._settings.label_smoothing
        losses = F.cross_entropy(logits, targets, label_smoothing=smoothing, reduction="sum")
        correct = (logits.argmax(1) == targets.argmax(1)).sum()
        # Sums stay on the device: reading them would make every step wait for the GPU. They are added up over the
        # processes in every step, not once per epoch, so that any number of processes can resume from a checkpoint.
        sums = group.sum(torch.stack([losses.detach(), correct, losses.new_full((), len(logits))]))
        # DDP averages the gradients of the processes; the factor makes that the gradient of the batch's mean loss.
        return losses * group.size / clips, torch.cat([sums, ~sums[:1].isfinite()])

    def update(self) -> None:
        """Update the weights and their average, and move on in the tables."""
        group = self._state.optimizer.param_groups[0]
        group["lr"].copy_(self.tables.lr[self.tables.step][0])
        self._state.optimizer.step()
        if self._state.average is not None:
            self._state.average.update()
        self.tables.step += 1
