"""A long recording is decoded and cut into windows in the memory of a short one."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

RATE = 8_000
MINUTE = (0.1 * np.random.default_rng(0).standard_normal(60 * RATE)).astype(np.float32)
SCRIPT = """
import resource, sys
from pathlib import Path
from audiocnn.streams import open_stream
from audiocnn.windows import Grid, chunks, cut

grid = Grid(int(sys.argv[2]), 5.0)
with open_stream(Path(sys.argv[1])) as stream:
    windows = sum(len(cut(chunk, grid).starts) for chunk in chunks(stream, grid))
print(windows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def windows_and_megabytes(file: Path) -> tuple[int, int]:
    command = [sys.executable, "-c", SCRIPT, str(file), str(RATE)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    windows, megabytes = done.stdout.split()
    return int(windows), int(megabytes)


@pytest.mark.parametrize(
    ("container", "subtype", "minutes"),
    [("WAV", "FLOAT", 60), ("FLAC", "PCM_16", 60), ("OGG", "VORBIS", 15), ("MP3", None, 15)],  # encoding takes long
)
def test_memory_does_not_grow_with_the_recording(
    container: str, subtype: str | None, minutes: int, tmp_path: Path
) -> None:
    peaks = []
    for length in (3, minutes):
        file = tmp_path / f"{length}.{container.lower()}"
        with soundfile.SoundFile(file, "w", RATE, 1, subtype, format=container) as sound:
            for _ in range(length):
                sound.write(MINUTE)
        windows, peak = windows_and_megabytes(file)
        assert windows == pytest.approx(length * 60 / 2.5 - 1, abs=1)
        peaks.append(peak)
    samples = (minutes - 3) * 60 * RATE * 4 // 2**20  # megabytes
    assert peaks[1] - peaks[0] < samples / 2
