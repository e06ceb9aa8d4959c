"""fit(): the loop, the schedule, several devices."""

import hashlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils import get_total_norm

from audiocnn.config import TrainSettings
from audiocnn.data.batches import Batches, band_statistics
from audiocnn.device import has_fast_bf16
from audiocnn.errors import AudioCNNError
from audiocnn.model import AudioCNN, BandNorm
from audiocnn.training import checkpoint as checkpoints
from audiocnn.training.augmentation import Draws, augment, one_hot
from audiocnn.training.checkpoint import Checkpoints
from audiocnn.training.distributed import SINGLE_PROCESS, World


class TrainingError(AudioCNNError):
    """Training cannot go on; the message says where it stopped."""


@dataclass(frozen=True)
class Epoch:
    """What one epoch gave. Accuracies are shares, 0 to 1; the loss is the cross-entropy in nats.

    The training figures are of the mixed and masked batches as they were trained on. The test figures, None in epochs
    that were not tested, are for the curves; nothing is chosen by them.
    """

    epoch: int
    lr: float
    train_loss: float
    train_accuracy: float
    test_loss: float | None
    test_accuracy: float | None


def fit(
    network: AudioCNN,
    train: Batches,
    test: Batches,
    settings: TrainSettings,
    on_epoch: Callable[[Epoch], None],
    saved: Checkpoints | None = None,
    world: World = SINGLE_PROCESS,
) -> list[Epoch]:
    """Train `network` in place for `settings.epochs` epochs; its last weights are the result.

    All randomness comes from (seed, epoch, step), so a run that resumes does what the unbroken one would have done: on
    a CPU, bit for bit.

    Args:
        on_epoch: called after each epoch that this call finished.
        saved: where to resume from if something is there, and what to write to every `settings.checkpoint_minutes`.
        world: processes that train together, each with its share of every batch.
    Returns:
        the history, resumed epochs included.
    Raises:
        TrainingError: the loss is no finite number, or no batch is large enough to learn from.
        CheckpointError: the checkpoint cannot be used.
    """
    trainer = _Trainer(network, train, test, settings, world)
    if saved and (content := world.broadcast(saved.read() if world.is_main else None)) is not None:
        trainer.restore(checkpoints.decode(content))
    trainer.run(on_epoch, saved)
    return trainer.history


def fingerprint(settings: TrainSettings, spec: dict[str, Any], code: str) -> str:
    """Names the training that a checkpoint belongs to: whatever changes the weights changes it.

    Args:
        spec: of the spectrograms: what they are of, and how they were made.
        code: tells the versions of the code that trains.
    """
    indifferent = dict.fromkeys(("device", "checkpoint_minutes", "resident_mb", "test_every"))
    parts = {**asdict(settings), **indifferent, "spec": spec, "code": code}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


class _Trainer:
    """One training: what a checkpoint holds, and the loop that moves it on."""

    def __init__(self, network: AudioCNN, train: Batches, test: Batches, settings: TrainSettings, world: World) -> None:
        self.train, self.test, self.settings, self.world = train, test, settings, world
        self._check_size()
        self.device = train.device
        network.to(self.device, memory_format=memory_format(network, self.device))  # type: ignore[call-overload]
        if isinstance(network.normalise, BandNorm) and settings.architecture.band_norm:
            network.normalise.set_statistics(*band_statistics(train, network.normalise.clamp))
        self.network = network
        self.wrapped = world.wrap(network)
        self.optimizer = torch.optim.AdamW(
            network.parameters(), settings.lr, weight_decay=settings.weight_decay, fused=True
        )
        self.steps = -(-train.clips // train.batch_size)
        self.schedule = _schedule(self.optimizer, settings, settings.epochs * self.steps)
        self.history: list[Epoch] = []
        self.step = 0  # of the epoch that comes after those in the history
        self.lr = 0.0  # with which that epoch began
        # Of that epoch, over all processes: loss, hits, clips, steps whose loss was no number.
        self.sums = torch.zeros(4, device=self.device)
        self.saved_at = time.monotonic()

    def state(self) -> dict[str, Any]:
        """All that the weights of the end depend on. Random numbers follow from the position alone."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": {
                key: value for key, value in self.schedule.state_dict().items() if isinstance(value, int | float | list)
            },
            "history": [asdict(epoch) for epoch in self.history],
            "step": self.step,
            "lr": self.lr,
            "sums": self.sums,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state`.

        Raises:
            CheckpointError: it is not one of this training.
        """
        with checkpoints.understood():
            self.network.load_state_dict(state["network"])
            self.optimizer.load_state_dict(state["optimizer"])
            _lay_out(self.optimizer)
            self.schedule.load_state_dict(state["schedule"])
            self.history = [Epoch(**epoch) for epoch in state["history"]]
            self.step, self.lr = int(state["step"]), float(state["lr"])
            self.sums = state["sums"].to(self.device)

    def run(self, on_epoch: Callable[[Epoch], None], saved: Checkpoints | None) -> None:
        """Every epoch that is left; then the network holds the weights to keep."""
        for number in range(len(self.history) + 1, self.settings.epochs + 1):
            self._epoch(number, saved)
            self.history.append(self._told(number))
            self.step, self.sums = 0, torch.zeros_like(self.sums)
            if self.world.is_main:
                on_epoch(self.history[-1])
            self._save(saved, number, last=number == self.settings.epochs)

    def _check_size(self) -> None:
        """Refuse batches that are all too small.

        Raises:
            TrainingError: every step would be skipped, and the weights would stay as they were drawn.
        """
        largest = min(self.train.clips, self.train.batch_size)
        if largest >= self._fewest:
            return
        per = "two" if self.world.size == 1 else f"two for each of {self.world.size} processes"
        raise TrainingError(
            f"nothing can be learnt: the largest batch has {largest} of {self.train.clips} training clips, and a step "
            f"needs {per}; raise train.batch_size (it is {self.train.batch_size}), or train on more clips"
        )

    @property
    def _fewest(self) -> int:
        """Clips of the smallest batch that is learnt from: batch norm has no variance of one at the deepest stage."""
        return 2 * self.world.size

    def _epoch(self, number: int, saved: Checkpoints | None) -> None:
        settings = self.settings
        generator = torch.Generator().manual_seed(_seed(settings.seed, number))
        order = torch.randperm(self.train.clips, generator=generator)
        size = self.train.batch_size
        draws = Draws.of_epoch(self.train.clips, size, settings.augment, generator, self.device)
        self.wrapped.train()
        if (done := self.step) == 0:
            self.lr = float(self.schedule.get_last_lr()[0])
        for step, (spectrograms, labels) in enumerate(self.train.in_order(order[done * size :]), start=done):
            self._step(spectrograms, labels, draws[step * size : step * size + len(labels)], (number, step))
            self.schedule.step()
            self.step = step + 1
            self._save(saved, number)

    def _step(self, spectrograms: Tensor, labels: Tensor, draws: Draws, place: tuple[int, int]) -> None:
        clips = len(labels)
        if clips < self._fewest:
            return  # the rest of the clips
        torch.manual_seed(_seed(self.settings.seed, *place, self.world.rank))  # dropout draws from the global generator
        # Every process makes the whole batch and learns from its share: mixing partners are the same for any number.
        targets = one_hot(labels, self.network.n_classes)
        if isinstance(self.network.normalise, BandNorm):
            spectrograms = self.network.normalise.clamp(spectrograms)
        spectrograms, targets = augment(spectrograms, targets, draws, self.settings.augment)
        targets = self.world.shard(targets)
        logits = _forward(self.wrapped, self.world.shard(spectrograms), self.settings)
        losses = F.cross_entropy(logits, targets, label_smoothing=self.settings.label_smoothing, reduction="sum")
        self.optimizer.zero_grad(set_to_none=True)
        # DDP takes the mean of the processes' gradients: times their number it is that of the whole batch's mean loss.
        (losses * self.world.size / clips).backward()
        self.optimizer.step()
        # Summed on the device: reading a number here would make every step wait for the GPU.
        hits = (logits.argmax(1) == targets.argmax(1)).sum()
        # Over the processes in every step, not once an epoch: a checkpoint then fits any number that resume.
        figures = self.world.sum(torch.stack([losses.detach(), hits, losses.new_full((), len(logits))]))
        self.sums += torch.cat([figures, ~figures[:1].isfinite()])

    def _told(self, number: int) -> Epoch:
        """The figures of the epoch that just ended.

        Raises:
            TrainingError: the loss, or a weight, is no number.
        """
        self._check(number)
        loss, hits, clips, _ = self.sums.tolist()
        tested = number % self.settings.test_every == 0 or number == self.settings.epochs
        test = evaluate_epoch(self.network, self.test, self.settings) if tested else (None, None)
        return Epoch(number, self.lr, loss / clips, hits / clips, *test)

    def _check(self, number: int) -> None:
        """Refuse an epoch, or what there is of one, in which the loss was no number, and weights that are none."""
        loss, _, clips, bad = self.sums.tolist()
        if bad or not math.isfinite(loss):
            steps = f"{bad:.0f} of {self.steps} steps"
            raise self._diverged(f"training loss became {loss / clips} in epoch {number} ({steps})")
        # The loss of a step is that of the weights before it.
        values = [value for value in self.network.state_dict().values() if value.is_floating_point()]
        if not get_total_norm(values).isfinite():
            raise self._diverged(f"weights became infinite or no numbers in epoch {number}")

    def _diverged(self, what: str) -> TrainingError:
        rate = f"{self.settings.max_lr:g}"
        return TrainingError(
            f"the {what}: lower train.max_lr (it is {rate}), or look for impossible values in the spectrograms"
        )

    def _save(self, saved: Checkpoints | None, number: int, last: bool = False) -> None:
        """Write a checkpoint, in epoch `number`, if it is time to."""
        due = time.monotonic() - self.saved_at >= 60 * self.settings.checkpoint_minutes
        if saved is None or not self.world.is_main or not (due or last):
            return
        self._check(number)  # a broken state must not take the place of a sound one
        saved.write(checkpoints.encode(self.state()))
        self.saved_at = time.monotonic()


@torch.inference_mode()
def evaluate_epoch(network: torch.nn.Module, batches: Batches, settings: TrainSettings) -> tuple[float, float]:
    """Mean cross-entropy (nats, without smoothing) and accuracy (0 to 1) over one pass."""
    network.eval()
    sums = torch.zeros(2, device=batches.device)
    for spectrograms, labels in batches.in_order():
        logits = _forward(network, spectrograms, settings)
        hits = (logits.argmax(1) == labels).sum()
        sums += torch.stack([F.cross_entropy(logits, labels, reduction="sum"), hits])
    loss, accuracy = (sums / batches.clips).tolist()
    return loss, accuracy


def _schedule(
    optimizer: torch.optim.Optimizer, settings: TrainSettings, steps: int
) -> torch.optim.lr_scheduler.OneCycleLR:
    """Up to max_lr in pct_start of the steps, then down, both along half a cosine (Smith and Topin, 2018)."""
    total = max(4, steps)
    # PyTorch's divides by the length of both phases: neither may be empty, however short the training.
    rise = min(max(settings.pct_start, 2 / total), 1 - 1 / total)
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.max_lr, total_steps=total, pct_start=rise)


def _lay_out(optimizer: torch.optim.Optimizer) -> None:
    """Give moments that were just loaded the strides of their weights.

    The fused AdamW walks through memory: after a GPU's channels last, a CPU's plain layout would pair each weight with
    another's moments.
    """
    for weight, state in optimizer.state.items():
        for name, value in state.items():
            if value.shape == weight.shape:
                state[name] = torch.empty_like(weight).copy_(value)


def _forward(network: torch.nn.Module, spectrograms: Tensor, settings: TrainSettings) -> Tensor:
    """Float32 logits of (batch, n_mels, frames), computed in the precision of the settings."""
    device = spectrograms.device
    # The weights' memory format decides that of all that follows: an input of one channel has both.
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=in_bf16(settings, device)):
        logits: Tensor = network(spectrograms.unsqueeze(1))
    return logits.float()


def in_bf16(settings: TrainSettings, device: torch.device) -> bool:
    """Whether a training computes in bfloat16: `precision` says so, or leaves it to the chip."""
    return settings.precision == "bf16" or (settings.precision == "auto" and has_fast_bf16(device))


def memory_format(network: AudioCNN, device: torch.device) -> torch.memory_format:
    """The layout in which the network's convolutions run best on the device: channels last, where that is safe.

    On a CPU without AVX-512, torch 2.11's backward pass in that layout crashes unless filters come in eights
    (seen with 4 and 6; ONEDNN_MAX_CPU_ISA=AVX2 shows it on any machine).
    """
    eights = all(stage_filters % 8 == 0 for stage_filters in network.filters)
    return torch.channels_last if device.type == "cuda" or eights else torch.contiguous_format


def _seed(*numbers: int) -> int:
    """Well apart for neighbouring numbers, and within 63 bits."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, numbers)).encode()).digest()[:7], "big")
