"""The process that decodes long recordings."""

import io
import json
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from helpers.project import ROOT
from helpers.torchserve import encode, noise

from audiocnn.streams import open_stream
from audiocnn.windows import CHUNK_SECONDS, Grid, chunks, cut
from serving.gateway.decoder import lines

GRID = Grid(16_000, 2.0)


def decode(content: bytes, max_seconds: float = 600.0) -> list[tuple[dict, bytes]]:
    return list(lines(io.BytesIO(content), GRID, max_seconds))


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3"])
def test_chunks_have_the_windows_of_the_recording(kind):
    content = encode(noise(21.3, 22050, 2), 22050, kind)
    *sent, (last, nothing) = decode(content)
    with open_stream(content) as stream:
        (whole,) = chunks(stream, GRID, CHUNK_SECONDS)
        assert last == {
            "clip": {"seconds": round(stream.seconds, 3), "rate": 22050, "channels": 2},
            "seconds": stream.seconds,
        }
    assert nothing == b"" and len(sent) > 3
    starts, waveforms = [], []
    for line, chunk in sent:
        described = soundfile.info(io.BytesIO(chunk))
        assert (described.samplerate, len(chunk)) == (GRID.rate, line["bytes"])
        with open_stream(chunk) as stream:
            (part,) = chunks(stream, GRID)
        windows = cut(part, GRID)
        starts += [line["start"] + start for start in windows.starts]
        waveforms += list(windows.waveforms)
    expected = cut(whole, GRID)
    assert starts == pytest.approx(expected.starts)
    np.testing.assert_array_equal(waveforms, expected.waveforms)


def test_silent_chunks_are_not_sent():
    sound = np.concatenate([noise(6.0, 16000), np.zeros((160_000, 1), np.float32), noise(6.0, 16000)])
    *sent, _ = decode(encode(sound, 16000))
    silent = [line["silent"] for line, chunk in sent if not chunk]
    assert silent and all(6 <= start <= 14 for starts in silent for start in starts)


@pytest.mark.parametrize(
    ("content", "max_seconds", "reason"),
    [
        (b"text", 600, "undecodable"),
        (b"", 600, "empty"),
        (encode(noise(20.0))[:-400_000], 600, "truncated"),
        (encode(noise(20.0)), 10, "too_long"),
    ],
)
def test_error_is_the_last_line(content, max_seconds, reason):
    last, _ = decode(content, max_seconds)[-1]
    assert last["reason"] == reason and last["error"]


def test_process_reads_its_standard_input(tmp_path):
    file = tmp_path / "sound.flac"
    file.write_bytes(encode(noise(11.0), kind="FLAC"))
    command = [sys.executable, "-m", "serving.gateway.decoder", "16000", "2.0", "600.0", "0"]
    with file.open("rb") as sound:
        done = subprocess.run(command, cwd=ROOT, stdin=sound, capture_output=True, timeout=60, check=True)
    last = b'{"clip"' + done.stdout.rpartition(b'{"clip"')[2]
    assert json.loads(last)["clip"] == {"seconds": 11.0, "rate": 44100, "channels": 1}
