"""The forward pass in the precision of the settings, and the evaluation during a training."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiocnn.config import TrainSettings
from audiocnn.data.batches import Batches
from audiocnn.device import has_fast_bf16

GPU_EVALUATION_BATCH = 256  # kernels of smaller batches leave a GPU idle


def evaluation_batch_size(settings: TrainSettings, device: torch.device) -> int:
    """Return the number of clips of a batch that is only evaluated. A CPU gains nothing from larger ones."""
    return max(settings.batch_size, GPU_EVALUATION_BATCH) if device.type == "cuda" else settings.batch_size


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
    # The input needs no memory format: with one channel both are the same, and the first convolution converts two.
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=uses_bf16(settings, device)):
        logits: Tensor = network(spectrograms.unsqueeze(1))
    return logits.float()


def uses_bf16(settings: TrainSettings, device: torch.device) -> bool:
    """Return whether a training computes in bfloat16.

    Always for `bf16`; for `auto`, if the hardware has fast bfloat16.
    """
    return settings.precision == "bf16" or (settings.precision == "auto" and has_fast_bf16(device))
