"""What tests import by name: where things are, and how to read them."""

import json
import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REAL_CLIPS = Path(os.environ.get("AUDIOCNN_ESC50", ROOT.parent / "shared" / "esc50"))


def read_json(path: Path) -> dict:
    """A JSON file's object."""
    return json.loads(path.read_text(encoding="utf-8"))
