"""The training loop."""

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import get_total_norm

from audiocnn.config import TrainSettings
from audiocnn.data.batches import Batches, band_statistics
from audiocnn.device import has_fast_bf16
from audiocnn.errors import AudioCNNError
from audiocnn.model import AudioCNN, BandNorm
from audiocnn.training.augmentation import AugmentParams, augment, one_hot
from audiocnn.training.checkpoint import CheckpointError, Checkpoints, decode, encode
from audiocnn.training.distributed import SINGLE_PROCESS, ProcessGroup
from audiocnn.training.memory_format import memory_format
from audiocnn.training.schedule import derive_seed, one_cycle
from audiocnn.training.state import Epoch, TrainingState


class TrainingError(AudioCNNError):
    """A training that cannot continue."""


def fit(
    network: AudioCNN,
    train: Batches,
    test: Batches,
    settings: TrainSettings,
    on_epoch: Callable[[Epoch], None] | None = None,
    checkpoints: Checkpoints | None = None,
    group: ProcessGroup = SINGLE_PROCESS,
    on_resume: Callable[[int], None] | None = None,
) -> list[Epoch]:
    """Train `network` in place for `settings.epochs` epochs. The weights of the last step are the result.

    All random numbers follow from the seed, the epoch and the step. A resumed training therefore repeats what an
    uninterrupted one does; on a CPU its weights are bit-identical.

    Args:
        on_epoch: called by the main process after each epoch that this call completes.
        checkpoints: the state to resume from, if there is one, and where to write it every
            `settings.checkpoint_minutes` and at the end.
        group: the processes that train together.
        on_resume: called by the main process with the number of the epoch in which a checkpoint resumes.
    Returns:
        all epochs, those before a resume included.
    Raises:
        TrainingError: the loss or a weight is not finite, or no batch is large enough to learn from.
        CheckpointError: the checkpoint cannot be used.
    """
    check_batch_size(train, group)
    state, parallel = _prepare(network, train, settings, checkpoints, group)
    saver = _Saver(state, settings, checkpoints if group.is_main else None)
    if on_resume and group.is_main and (state.history or state.step):
        on_resume(state.epoch)
    while state.epoch <= settings.epochs:
        _train_epoch(state, parallel, train, settings, group, saver)
        epoch = _finish_epoch(state, test, settings)
        state.history.append(epoch)
        state.start_epoch()
        if on_epoch and group.is_main:
            on_epoch(epoch)
        saver.save_if_due(last=epoch.epoch == settings.epochs)
    return state.history


def min_batch_size(group: ProcessGroup) -> int:
    """Return the number of clips that a batch needs: batch norm has no variance for one clip in the last stage."""
    return 2 * group.size


def check_batch_size(train: Batches, group: ProcessGroup) -> None:
    """Check that at least one batch is large enough to learn from.

    Raises:
        TrainingError: every step would be skipped, and the weights would never change.
    """
    needed, largest = min_batch_size(group), min(train.clips, train.batch_size)
    if largest < needed:
        where = f" in {group.size} processes" if group.size > 1 else ""
        raise TrainingError(
            f"train.batch_size: a batch needs at least {needed} clips{where}, the largest has {largest}; increase it "
            f"(now {train.batch_size}) or add training clips (now {train.clips})"
        )


class _Saver:
    """Writes the state to `checkpoints` every `settings.checkpoint_minutes`; without `checkpoints`, never."""

    def __init__(self, state: TrainingState, settings: TrainSettings, checkpoints: Checkpoints | None) -> None:
        self._state, self._settings, self._checkpoints = state, settings, checkpoints
        self._saved_at = time.monotonic()

    def save_if_due(self, last: bool = False) -> None:
        """Write a checkpoint if `checkpoint_minutes` have passed or the training is complete.

        Raises:
            TrainingError: the state is not finite; the previous checkpoint is kept.
        """
        due = time.monotonic() - self._saved_at >= 60 * self._settings.checkpoint_minutes
        if self._checkpoints is None or not (due or last):
            return
        _check_finite(self._state, self._settings)
        self._checkpoints.write(encode(self._state.to_dict()))
        self._saved_at = time.monotonic()


def _prepare(
    network: AudioCNN, train: Batches, settings: TrainSettings, checkpoints: Checkpoints | None, group: ProcessGroup
) -> tuple[TrainingState, nn.Module]:
    """Return the state at the start, or that of the checkpoint, and `network` as wrapped for several processes.

    Raises:
        CheckpointError: the checkpoint cannot be used.
    """
    device = train.device
    network.to(device, memory_format=memory_format(network, device))  # type: ignore[call-overload]
    if isinstance(network.normalise, BandNorm) and settings.architecture.band_norm:
        network.normalise.set_statistics(*band_statistics(train, network.normalise.clamp))
    parallel = group.wrap(network)
    optimizer = torch.optim.AdamW(network.parameters(), settings.lr, weight_decay=settings.weight_decay, fused=True)
    steps_per_epoch = -(-train.clips // train.batch_size)
    state = TrainingState(network, optimizer, one_cycle(optimizer, settings, settings.epochs * steps_per_epoch))
    if checkpoints and (content := group.broadcast(checkpoints.read() if group.is_main else None)) is not None:
        try:
            state.load(decode(content))
        except CheckpointError as error:
            raise CheckpointError(f"{checkpoints.location}: {error}; delete it to start over") from error
    return state, parallel


def _train_epoch(
    state: TrainingState,
    parallel: nn.Module,
    train: Batches,
    settings: TrainSettings,
    group: ProcessGroup,
    saver: _Saver,
) -> None:
    """Train for the remaining steps of the epoch.

    Raises:
        TrainingError: a checkpoint is due, and a loss or a weight is not finite.
    """
    device, size = train.device, train.batch_size
    generator = torch.Generator().manual_seed(derive_seed(settings.seed, state.epoch))
    order = torch.randperm(train.clips, generator=generator)
    # The whole epoch's random numbers are drawn at once, so that a resume within it gets the same ones.
    params = AugmentParams.sample(train.clips, size, settings.augment, generator, device)
    parallel.train()
    for spectrograms, labels in train.in_order(order[state.step * size :]):
        start, clips = state.step * size, len(labels)
        if clips >= min_batch_size(group):  # the last batch may be smaller
            # Dropout uses the global generator.
            torch.manual_seed(derive_seed(settings.seed, state.epoch, state.step, group.rank))
            augmentation = params[start : start + clips]
            loss, sums = _forward_batch(parallel, state.network, spectrograms, labels, augmentation, settings, group)
            state.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            state.optimizer.step()
            state.sums += sums
        state.schedule.step()
        state.step += 1
        saver.save_if_due()


def _forward_batch(
    parallel: nn.Module,
    network: AudioCNN,
    spectrograms: Tensor,
    labels: Tensor,
    params: AugmentParams,
    settings: TrainSettings,
    group: ProcessGroup,
) -> tuple[Tensor, Tensor]:
    """Augment a batch and run the forward pass on this process's shard.

    Args:
        parallel: `network`, or its wrapper for several processes.
        spectrograms: float32 (batch, n_mels, frames) in dB.
        labels: int64 (batch,).
        params: the augmentation of these clips.
    Returns:
        the loss to backpropagate, and the batch's addition to TrainingState.sums.
    """
    # Every process augments the whole batch, so that the mixing partners do not depend on the number of processes.
    targets = one_hot(labels, network.n_classes)
    if isinstance(network.normalise, BandNorm):
        spectrograms = network.normalise.clamp(spectrograms)
    spectrograms, targets = augment(spectrograms, targets, params, settings.augment)
    targets = group.shard(targets)
    logits = forward(parallel, group.shard(spectrograms), settings)
    losses = F.cross_entropy(logits, targets, label_smoothing=settings.label_smoothing, reduction="sum")
    correct = (logits.argmax(1) == targets.argmax(1)).sum()
    # Sums stay on the device: reading them would make every step wait for the GPU. They are added up over the processes
    # in every step, not once per epoch, so that any number of processes can resume from a checkpoint.
    sums = group.sum(torch.stack([losses.detach(), correct, losses.new_full((), len(logits))]))
    # DDP averages the gradients of the processes; the factor makes that the gradient of the batch's mean loss.
    return losses * group.size / len(labels), torch.cat([sums, ~sums[:1].isfinite()])


def _finish_epoch(state: TrainingState, test: Batches, settings: TrainSettings) -> Epoch:
    """Return the metrics of the epoch whose last step is done.

    Raises:
        TrainingError: a loss or a weight is not finite.
    """
    _check_finite(state, settings)
    loss, correct, clips, _ = state.sums.tolist()
    number = state.epoch
    test_loss = test_accuracy = None
    if number % settings.test_every == 0 or number == settings.epochs:
        test_loss, test_accuracy = evaluate(state.network, test, settings)
        if not math.isfinite(test_loss):
            raise _diverged(f"test loss became {test_loss} in epoch {number}", settings)
    return Epoch(number, state.lr, loss / clips, correct / clips, test_loss, test_accuracy)


def _check_finite(state: TrainingState, settings: TrainSettings) -> None:
    """Check the losses since the start of the epoch and the weights.

    Raises:
        TrainingError: a loss or a weight is not finite.
    """
    loss, _, clips, bad_steps = state.sums.tolist()
    if bad_steps or not math.isfinite(loss):
        steps = "1 step" if bad_steps == 1 else f"{bad_steps:.0f} steps"
        raise _diverged(f"training loss became {loss / clips} in epoch {state.epoch} (in {steps})", settings)
    # A step's loss belongs to the weights before it, so the last step's weights have to be checked too.
    values = [value for value in state.network.state_dict().values() if value.is_floating_point()]
    if not get_total_norm(values).isfinite():
        raise _diverged(f"weights became infinite or NaN in epoch {state.epoch}", settings)


def _diverged(what: str, settings: TrainSettings) -> TrainingError:
    return TrainingError(f"the {what}: decrease train.max_lr (now {settings.max_lr:g}) or check the spectrograms")


@torch.inference_mode()
def evaluate(network: nn.Module, batches: Batches, settings: TrainSettings) -> tuple[float, float]:
    """Return the mean cross-entropy (nats, without label smoothing) and the accuracy (0 to 1) over one pass."""
    network.eval()
    sums = torch.zeros(2, device=batches.device)
    for spectrograms, labels in batches.in_order():
        logits = forward(network, spectrograms, settings)
        correct = (logits.argmax(1) == labels).sum()
        sums += torch.stack([F.cross_entropy(logits, labels, reduction="sum"), correct])
    loss, accuracy = (sums / batches.clips).tolist()
    return loss, accuracy


def forward(network: nn.Module, spectrograms: Tensor, settings: TrainSettings) -> Tensor:
    """Return float32 logits (batch, n_classes) of spectrograms (batch, n_mels, frames), computed in `precision`."""
    device = spectrograms.device
    # The input needs no memory format: with one channel, both formats are the same.
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=uses_bf16(settings, device)):
        logits: Tensor = network(spectrograms.unsqueeze(1))
    return logits.float()


def uses_bf16(settings: TrainSettings, device: torch.device) -> bool:
    """Return whether a training computes in bfloat16.

    Always for `bf16`; for `auto`, if the hardware has fast bfloat16.
    """
    return settings.precision == "bf16" or (settings.precision == "auto" and has_fast_bf16(device))
