"""Fit the calibration of a trained classifier on the clips of the calibration fold."""

from typing import TYPE_CHECKING

import torch

from audiocnn.calibration import Calibration, fit_calibration
from audiocnn.config import TrainSettings
from audiocnn.data.batches import Rows, batches
from audiocnn.data.spectrogram_set import SpectrogramSet
from audiocnn.device import full_float32

if TYPE_CHECKING:
    from audiocnn.classifier import Classifier  # it imports torchaudio, which training does not need


@torch.inference_mode()
@full_float32()
def calibrate(classifier: "Classifier", data: SpectrogramSet, rows: Rows, settings: TrainSettings) -> Calibration:
    """Return the calibration, fitted on the clips in `rows`, computed on the network's device."""
    device = next(classifier.network.parameters()).device
    clips = batches(data, rows, settings.batch_size, device, settings.resident_mb).in_order()
    logits = torch.cat([classifier.logits(spectrograms).cpu() for spectrograms, _ in clips])
    return fit_calibration(logits.double().numpy(), data.labels[rows], classifier.classes)
