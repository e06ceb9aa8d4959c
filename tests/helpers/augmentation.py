"""Settings, random parameters and spectrograms for the tests of the augmentation."""

from typing import Any

import torch

from audiocnn.config import AugmentSettings
from audiocnn.training.augmentation import AugmentParams

CPU = torch.device("cpu")
OFF = {"roll": False, "tempo": 0, "pitch_scale": 0, "pitch_shift": 0, "equalizer_db": 0}
OFF |= {"mix": "none", "mix_alpha": 1.0, "mix_share": 1.0, "freq_mask": 0, "time_mask": 0, "mask_fill": "zero"}
ALL = {"roll": True, "tempo": 0.3, "pitch_scale": 0.1, "pitch_shift": 5, "equalizer_db": 4}
ALL |= {"mix": "power", "freq_mask": 5, "time_mask": 9, "mask_fill": "mean"}


def augment_settings(**changes: Any) -> AugmentSettings:
    """Return settings that change nothing, except for `changes`."""
    return AugmentSettings.parse(OFF | changes, "test")


def augment_params(clips: int, seed: int = 0, batch_size: int = 8, **changes: Any) -> AugmentParams:
    """Draw the parameters of one epoch."""
    generator = torch.Generator().manual_seed(seed)
    return AugmentParams.sample(clips, batch_size, augment_settings(**changes), generator, CPU)


def random_spectrograms(seed: int, *shape: int) -> torch.Tensor:
    """Return uniform values between -80 and 0 dB."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 80 - 80
