"""fit(): the loop, the schedule, checkpoints and resume."""

import hashlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from audiocnn import augment
from audiocnn.atomic import atomic_file
from audiocnn.dataset import Batches
from audiocnn.errors import AudioCNNError
from audiocnn.model import AudioCNN
from audiocnn.settings import TrainSettings


class TrainingError(AudioCNNError):
    """Training cannot go on; the message says where it stopped."""


@dataclass(frozen=True)
class Epoch:
    """What one epoch gave. Accuracies are shares, 0 to 1; the loss is the cross-entropy in nats.

    The training figures are of the mixed and masked batches as they were trained on. The test figures are for the
    curves; nothing is chosen by them.
    """

    epoch: int
    lr: float
    train_loss: float
    train_accuracy: float
    test_loss: float
    test_accuracy: float


def fit(
    network: AudioCNN,
    train: Batches,
    test: Batches,
    settings: TrainSettings,
    on_epoch: Callable[[Epoch], None],
    checkpoint: Path | None = None,
) -> list[Epoch]:
    """Train `network` in place for `settings.epochs` epochs; its last weights are the result.

    All randomness of an epoch comes from (seed, epoch), so a run that resumes after an epoch does what the unbroken
    one would have done: on a CPU, bit for bit.

    Args:
        on_epoch: called after each epoch that this call trained.
        checkpoint: a file to resume from where it exists, and to write every `settings.checkpoint_minutes`.
    Returns:
        the history, resumed epochs included.
    Raises:
        TrainingError: the loss is no finite number, or the checkpoint cannot be used.
    """
    network.to(train.device, memory_format=memory_format(train.device))  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters(), lr=settings.lr, weight_decay=settings.weight_decay, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.max_lr, total_steps=settings.epochs * len(train), pct_start=settings.pct_start
    )
    history = _resume(checkpoint, network, optimizer, schedule)
    saved = time.monotonic()
    for number in range(len(history) + 1, settings.epochs + 1):
        lr = float(schedule.get_last_lr()[0])
        train_loss, train_accuracy = _train_epoch(network, train, settings, optimizer, schedule, number)
        test_loss, test_accuracy = evaluate_epoch(network, test, settings)
        history.append(Epoch(number, lr, train_loss, train_accuracy, test_loss, test_accuracy))
        on_epoch(history[-1])
        if checkpoint and time.monotonic() - saved >= 60 * settings.checkpoint_minutes:
            _save(checkpoint, network, optimizer, schedule, history)
            saved = time.monotonic()
    return history


def fingerprint(settings: TrainSettings, spec: dict[str, Any]) -> str:
    """Names the training that a checkpoint belongs to: whatever changes the weights changes it."""
    parts = {**asdict(settings), "device": None, "checkpoint_minutes": None, "spec": spec}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _train_epoch(
    network: AudioCNN,
    batches: Batches,
    settings: TrainSettings,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    number: int,
) -> tuple[float, float]:
    network.train()
    generator = torch.Generator().manual_seed(_epoch_seed(settings.seed, number))
    torch.manual_seed(_epoch_seed(settings.seed, number) + 1)  # dropout draws from the global generator
    loss_sum = torch.zeros((), device=batches.device)
    correct = torch.zeros((), device=batches.device)
    for step, (spectrograms, labels) in enumerate(batches.shuffled(generator)):
        if len(labels) == 1 and step > 0:
            schedule.step()  # batch norm has no variance of one clip at the deepest stage
            continue
        targets = augment.one_hot(labels, network.n_classes)
        spectrograms, targets = augment.mixup(
            spectrograms, targets, settings.mixup_alpha, settings.mixup_share, generator
        )
        spectrograms = augment.mask(spectrograms, settings.freq_mask, settings.time_mask, generator)
        logits = _forward(network, spectrograms, settings)
        loss = F.cross_entropy(logits, targets, label_smoothing=settings.label_smoothing)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        # Summed on the device: reading a number here would make every step wait for the GPU.
        loss_sum += loss.detach() * len(labels)
        correct += (logits.argmax(1) == targets.argmax(1)).sum()
    mean_loss = float(loss_sum) / batches.clips
    if not math.isfinite(mean_loss):
        raise TrainingError(
            f"the training loss became {mean_loss} in epoch {number}: lower train.max_lr (it is {settings.max_lr:g}), "
            "or look for impossible values in the spectrograms"
        )
    return mean_loss, float(correct) / batches.clips


@torch.inference_mode()
def evaluate_epoch(network: AudioCNN, batches: Batches, settings: TrainSettings) -> tuple[float, float]:
    """Mean cross-entropy (nats, without smoothing) and accuracy (0 to 1) over one pass."""
    network.eval()
    loss_sum = torch.zeros((), device=batches.device)
    correct = torch.zeros((), device=batches.device)
    for spectrograms, labels in batches.in_order():
        logits = _forward(network, spectrograms, settings)
        loss_sum += F.cross_entropy(logits, labels, reduction="sum")
        correct += (logits.argmax(1) == labels).sum()
    return float(loss_sum) / batches.clips, float(correct) / batches.clips


def _forward(network: AudioCNN, spectrograms: Tensor, settings: TrainSettings) -> Tensor:
    """Float32 logits of (batch, n_mels, frames), computed in the precision of the settings."""
    bf16 = settings.precision == "bf16"
    inputs = spectrograms.unsqueeze(1).contiguous(memory_format=memory_format(spectrograms.device))
    with torch.autocast(inputs.device.type, dtype=torch.bfloat16, enabled=bf16):
        logits: Tensor = network(inputs)
    return logits.float()


def memory_format(device: torch.device) -> torch.memory_format:
    """The layout in which convolutions run best on the device.

    On a CPU it is PyTorch's own: with channels last, torch 2.11's backward pass of convolutions with few channels
    writes beyond its buffers and crashes the process.
    """
    return torch.channels_last if device.type == "cuda" else torch.contiguous_format


def _epoch_seed(seed: int, epoch: int) -> int:
    """Well apart for neighbouring seeds and epochs, and within 63 bits."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{epoch}".encode()).digest()[:7], "big")


def _save(path: Path, network: AudioCNN, optimizer: Any, schedule: Any, history: list[Epoch]) -> None:
    state = {
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "schedule": {
            key: value for key, value in schedule.state_dict().items() if isinstance(value, int | float | list)
        },
        "history": [asdict(epoch) for epoch in history],
    }
    with atomic_file(path) as part:
        torch.save(state, part)


def _resume(path: Path | None, network: AudioCNN, optimizer: Any, schedule: Any) -> list[Epoch]:
    if path is None or not path.is_file():
        return []
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        return [Epoch(**epoch) for epoch in state["history"]]
    except (RuntimeError, KeyError, TypeError, EOFError, ValueError) as error:
        raise TrainingError(f"{path}: cannot resume from this checkpoint ({error}); delete it to start anew") from error
