"""Networks and training settings small enough for tests."""

from typing import Any

from audiocnn.config import TrainSettings
from audiocnn.model import AudioCNN
from helpers.project import ROOT
from pipeline import settings as pipeline_settings


def small_network(n_classes: int, n_mels: int = 128, **changes: Any) -> AudioCNN:
    """Return a narrow network of the recipe `seed`, with random weights and changed keys of its architecture."""
    architecture = pipeline_settings.load(ROOT / "params.yaml").train.architecture
    return AudioCNN(n_classes, n_mels, architecture.replace(**{"width": 0.0625, **changes}))


def replace_settings(settings: TrainSettings, **changes: Any) -> TrainSettings:
    """Return settings with changed keys; those of the blocks architecture and augment are changed there."""
    blocks = {}
    for name in ("architecture", "augment"):
        block = getattr(settings, name)
        own = {key: changes.pop(key) for key in list(changes) if hasattr(block, key)}
        blocks[name] = block.replace(**own)
    return settings.replace(**blocks, **changes)
