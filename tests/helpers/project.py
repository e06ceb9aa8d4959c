"""Paths of the project, and reading its JSON files."""

import json
import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REAL_CLIPS = Path(os.environ.get("AUDIOCNN_ESC50", "not-set"))


def read_json(path: Path) -> dict:
    """Return the object in a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))
