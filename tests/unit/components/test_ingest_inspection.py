"""How many clips the step ingest decodes at the same time."""

import threading
import time
from pathlib import Path

import pandas as pd
import pytest

from audiocnn import audio
from components.ingest.findings import Findings
from components.ingest.inspection import THREADS, inspect_clips
from pipeline.settings import PipelineSettings


def test_few_clips_are_in_memory_at_once_on_any_machine(
    demo_folder: Path, tiny: PipelineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode, lock, running, most = audio.decode, threading.Lock(), 0, 0

    def counted(content: bytes) -> audio.Sound:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.02)
        sound = decode(content)
        with lock:
            running -= 1
        return sound

    monkeypatch.setattr(audio, "decode", counted)
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    files = {file.name: file for file in sorted((demo_folder / "audio").iterdir())[:40]}
    rows = pd.DataFrame({"filename": list(files)})
    inspected = inspect_clips(rows, files, tiny.spectrograms, 1.0, Findings(tiny.ingest.policy))
    assert len(inspected) == 40
    assert 1 < most <= THREADS
