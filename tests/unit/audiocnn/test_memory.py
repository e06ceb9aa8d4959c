"""A long recording is decoded and cut into windows in the memory of a short one."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers.project import ROOT

RATE = 8_000
MINUTE = (0.1 * np.random.default_rng(0).standard_normal(60 * RATE)).astype(np.float32)
SCRIPT = """
import sys
from pathlib import Path
from helpers.memory import peak_megabytes
from audiocnn.streams import open_stream
from audiocnn.windows import Grid, chunks, cut

grid = Grid(int(sys.argv[2]), 5.0)
with open_stream(Path(sys.argv[1])) as stream:
    windows = sum(len(cut(chunk, grid).starts) for chunk in chunks(stream, grid))
print(windows, peak_megabytes())
"""


def windows_and_megabytes(file: Path) -> tuple[int, int]:
    command = [sys.executable, "-c", SCRIPT, str(file), str(RATE)]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    windows, megabytes = done.stdout.split()
    return int(windows), int(megabytes)


@pytest.mark.parametrize(
    ("container", "subtype", "minutes"),
    [("WAV", "FLOAT", 60), ("FLAC", "PCM_16", 60), ("OGG", "VORBIS", 30), ("MP3", None, 30)],  # encoding takes long
)
def test_memory_does_not_grow_with_the_recording(
    container: str, subtype: str | None, minutes: int, tmp_path: Path
) -> None:
    peaks = []
    for length in (6, minutes):
        file = tmp_path / f"{length}.{container.lower()}"
        with soundfile.SoundFile(file, "w", RATE, 1, subtype, format=container) as sound:
            for _ in range(length):
                sound.write(MINUTE)
        windows, peak = windows_and_megabytes(file)
        assert windows == pytest.approx(length * 60 / 2.5 - 1, abs=1)
        peaks.append(peak)
    samples = (minutes - 6) * 60 * RATE * 4 // 2**20  # megabytes
    assert peaks[1] - peaks[0] < samples / 2
