"""What tests import by name: where things are, and how to read them."""

import json
import os
from pathlib import Path
from typing import Any

from audiocnn.config import Architecture, TrainSettings
from audiocnn.model import AudioCNN
from pipeline import settings as pipeline_settings

ROOT = Path(__file__).resolve().parents[2]
REAL_CLIPS = Path(os.environ.get("AUDIOCNN_ESC50", ROOT.parent / "shared" / "esc50"))


def read_json(path: Path) -> dict:
    """A JSON file's object."""
    return json.loads(path.read_text(encoding="utf-8"))


def architecture(**changes: Any) -> Architecture:
    """The seed recipe's, with changes."""
    return pipeline_settings.load(ROOT / "params.yaml").train.architecture.replace(**changes)


def small_network(n_classes: int, n_mels: int = 128, **changes: Any) -> AudioCNN:
    """A network of milliseconds, with random weights."""
    return AudioCNN(n_classes, n_mels, architecture(**{"width": 0.0625, **changes}))


def vary(settings: TrainSettings, **changes: Any) -> TrainSettings:
    """Settings with changes; keys of the blocks architecture and augment go there."""
    inner = {}
    for name in ("architecture", "augment"):
        block = getattr(settings, name)
        own = {key: changes.pop(key) for key in list(changes) if hasattr(block, key)}
        inner[name] = block.replace(**own)
    return settings.replace(**inner, **changes)
