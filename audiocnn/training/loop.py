"""The training loop, for one network or for several side by side."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.utils import get_total_norm

from audiocnn.config import TrainSettings
from audiocnn.data.batches import Batch, Batches, ResidentBatches, band_statistics, batches
from audiocnn.data.spectrogram_set import SpectrogramSet
from audiocnn.errors import AudioCNNError
from audiocnn.model import AudioCNN, BandNorm
from audiocnn.training.averaging import AveragedWeights
from audiocnn.training.captured import CapturedSteps, RunSteps, capture_obstacle, run_directly
from audiocnn.training.checkpoint import CheckpointError, Checkpoints, decode, encode
from audiocnn.training.distributed import SINGLE_PROCESS, ProcessGroup
from audiocnn.training.forward import evaluate, evaluation_batch_size
from audiocnn.training.memory_format import memory_format
from audiocnn.training.schedule import one_cycle
from audiocnn.training.state import Epoch, TrainingState
from audiocnn.training.step import TrainingStep
from audiocnn.training.tables import rate_dtype


class TrainingError(AudioCNNError):
    """A training that cannot continue."""


@dataclass(eq=False)
class Training:
    """A network and what it is trained with.

    Attributes:
        network: trained in place; afterwards it has the weights of the last step, or their average.
        train, test: the training clips and the test clips.
        settings: see TrainSettings.
        on_epoch: called by the main process after each epoch that is completed in this process.
        checkpoints: the state to resume from, if there is one, and where to write it every
            `settings.checkpoint_minutes` and at the end.
        on_resume: called by the main process with the number of the epoch in which a checkpoint resumes.
        name: for errors, where several trainings run; may be empty.
        history: all completed epochs, those before a resume included.
    """

    network: AudioCNN
    train: Batches
    test: Batches
    settings: TrainSettings
    on_epoch: Callable[[Epoch], None] | None = None
    checkpoints: Checkpoints | None = None
    on_resume: Callable[[int], None] | None = None
    name: str = ""
    history: list[Epoch] = field(default_factory=list, init=False)


def new_training(
    data: SpectrogramSet,
    rows: Sequence[npt.NDArray[np.int64]],
    settings: TrainSettings,
    device: torch.device,
    name: str = "",
) -> Training:
    """Return a training of an initial network, with its clips on the device or streamed to it.

    Args:
        rows: the training clips and the test clips, as `audiocnn.data.clips.split` returns them.
        name: see Training.
    """
    sizes = settings.batch_size, evaluation_batch_size(settings, device)
    train, test = (
        batches(data, part, size, device, settings.resident_mb) for part, size in zip(rows, sizes, strict=True)
    )
    torch.manual_seed(settings.seed)
    network = AudioCNN(len(data.classes), data.spectrograms.shape[1], settings.architecture)
    return Training(network, train, test, settings, name=name)


def fit_many(trainings: Sequence[Training], group: ProcessGroup = SINGLE_PROCESS, cuda_graph: bool = True) -> None:
    """Train networks in place, each for its `settings.epochs`: on a GPU side by side, elsewhere one after another.

    All random numbers follow from the seed, the epoch and the step. A resumed training therefore repeats what an
    uninterrupted one does; on a CPU its weights are bit-identical.

    Args:
        trainings: independent of each other, on the same device.
        group: the processes that train together.
        cuda_graph: capture the steps in a CUDA graph where that is possible; else they run directly.
    Raises:
        TrainingError: the loss or a weight is not finite, or no batch is large enough to learn from. The other
            trainings stop too; their checkpoints remain.
        CheckpointError: a checkpoint cannot be used.
    """
    captured = [training for training in trainings if cuda_graph and not capture_obstacle(training.train, group)]
    if captured:
        _run(captured, group, CapturedSteps(captured[0].train.device))
    for training in trainings:
        if training not in captured:
            _run([training], group, run_directly)


def _run(trainings: Sequence[Training], group: ProcessGroup, run_steps: RunSteps) -> None:
    """Run trainings; whenever each of them has a full batch next, `run_steps` learns from all of these batches."""
    loops = [_train(training, group) for training in trainings]
    while steps := [step for loop in loops if (step := next(loop, None)) is not None]:
        run_steps(steps)


def _train(training: Training, group: ProcessGroup) -> Iterator[TrainingStep]:
    """Train, and yield the step whenever a full batch is next; it has to be run before the iteration continues."""
    settings, train = training.settings, training.train
    with named_errors(training.name):
        check_batch_size(train, group)
        state, step = prepare(training, group)
        saver = _Saver(state, settings, training.checkpoints if group.is_main else None)
        if training.on_resume and group.is_main and (state.history or state.step):
            training.on_resume(state.epoch)
        while state.epoch <= settings.epochs:
            yield from _train_epoch(state, step, train, group, saver)
            epoch = _finish_epoch(state, training.test, settings, step.first_lr)
            state.finish_epoch(epoch)
            if training.on_epoch and group.is_main:
                training.on_epoch(epoch)
            saver.save_if_due(last=epoch.epoch == settings.epochs)
        if state.average is not None:
            training.network.load_state_dict(state.average.network.state_dict())
        training.history = state.history


@contextmanager
def named_errors(name: str) -> Iterator[None]:
    """Add a note to errors that says which of several trainings failed; without a name, do nothing."""
    try:
        yield
    except AudioCNNError as error:
        if name:
            error.add_note(f"Failed training: {name}")
        raise


def min_batch_size(group: ProcessGroup) -> int:
    """Return the number of clips that a batch needs: batch norm has no variance for one clip in the last stage."""
    return 2 * group.size


def check_batch_size(train: Batches, group: ProcessGroup) -> None:
    """Check that the first batch is complete and large enough to learn from. The last one of an epoch may be smaller.

    Raises:
        TrainingError: it is not.
    """
    if train.clips < train.batch_size:
        raise TrainingError(
            f"train.batch_size: {train.batch_size} clips are more than the training folds have ({train.clips}); "
            "decrease it or add training clips"
        )
    if train.batch_size < (needed := min_batch_size(group)):
        raise TrainingError(
            f"train.batch_size: {group.size} processes need at least {needed} clips in a batch, found "
            f"{train.batch_size}; increase it"
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


def prepare(training: Training, group: ProcessGroup) -> tuple[TrainingState, TrainingStep]:
    """Return the state at the start, or that of the checkpoint, and the step that changes it.

    Raises:
        CheckpointError: the checkpoint cannot be used.
    """
    network, train, settings = training.network, training.train, training.settings
    checkpoints, device = training.checkpoints, train.device
    network.to(device, memory_format=memory_format(network, device))  # type: ignore[call-overload]
    if isinstance(network.normalise, BandNorm) and settings.architecture.band_norm:
        network.normalise.set_statistics(*band_statistics(train, network.normalise.clamp))
    parallel = group.wrap(network)
    steps = settings.epochs * -(-train.clips // train.batch_size)
    average = AveragedWeights(network, settings.ema_horizon * steps) if settings.ema_horizon else None
    state = TrainingState(network, _optimizer(network, settings, device), average)
    if checkpoints and (content := group.broadcast(checkpoints.read() if group.is_main else None)) is not None:
        try:
            state.load(decode(content))
        except CheckpointError as error:
            raise CheckpointError(f"{checkpoints.location}: {error}; delete it to start over") from error
    return state, TrainingStep(state, parallel, train, settings, one_cycle(settings, steps), group)


def _optimizer(network: AudioCNN, settings: TrainSettings, device: torch.device) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        network.parameters(),
        torch.tensor(settings.lr, dtype=rate_dtype(device), device=device),
        weight_decay=settings.weight_decay,
        fused=True,
        capturable=device.type == "cuda",
    )


def _train_epoch(
    state: TrainingState, step: TrainingStep, train: Batches, group: ProcessGroup, saver: _Saver
) -> Iterator[TrainingStep]:
    """Train for the remaining steps of the epoch. Yields and raises what `_train` does."""
    order = step.start_epoch()
    for clips, batch in _remaining(train, order, state.step):
        if clips >= min_batch_size(group):  # the last batch may be smaller
            step.prepare()
            if clips == train.batch_size and batch is None:
                yield step
            else:
                step.run(clips, batch)
        state.step += 1
        saver.save_if_due()


def _remaining(train: Batches, order: torch.Tensor, step: int) -> Iterator[tuple[int, Batch | None]]:
    """Iterate over the batches from `step` on: their numbers of clips, and their clips unless the device has them."""
    size = train.batch_size
    if isinstance(train, ResidentBatches):
        for first in range(step * size, train.clips, size):
            yield min(size, train.clips - first), None
    else:
        for batch in train.in_order(order[step * size :]):
            yield len(batch[1]), batch


def _finish_epoch(state: TrainingState, test: Batches, settings: TrainSettings, lr: float) -> Epoch:
    """Return the metrics of the epoch whose last step is done; `lr` was the learning rate of its first one.

    Raises:
        TrainingError: a loss or a weight is not finite.
    """
    _check_finite(state, settings)
    loss, correct, clips, _ = state.sums.tolist()
    number = state.epoch
    test_loss = test_accuracy = None
    if number % settings.test_every == 0 or number == settings.epochs:
        test_loss, test_accuracy = evaluate(state.result, test, settings)
        if not math.isfinite(test_loss):
            raise _diverged(f"test loss became {test_loss} in epoch {number}", settings)
    return Epoch(number, lr, loss / clips, correct / clips, test_loss, test_accuracy)


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
