"""Files that the program ffmpeg decodes: real files of its encoders, without the program, and with hostile content."""

import os
import resource
from pathlib import Path

import numpy as np
import pytest
from helpers.audio import RATE, encode
from helpers.ffmpeg import convert, put_on_path
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audiocnn import ffmpeg
from audiocnn.errors import AudioError, Truncated, Undecodable
from audiocnn.streams import open_stream

TONE = encode(0.3 * np.sin(2 * np.pi * 440 * np.arange(3 * RATE) / RATE))
FORMATS = {  # name of the file, and options of the encoder
    "aac.m4a": ("-c:a", "aac"),
    "faststart.m4a": ("-c:a", "aac", "-movflags", "+faststart"),
    "fragments.mp4": ("-c:a", "aac", "-movflags", "frag_keyframe+empty_moov"),
    "alac.m4a": ("-c:a", "alac"),
    "adts.aac": ("-c:a", "aac"),
    "opus.webm": ("-c:a", "libopus"),
    "recorder.webm": ("-c:a", "libopus", "-live", "1"),
    "flac.ogg": ("-c:a", "flac"),
    "mp3.wav": ("-c:a", "libmp3lame"),
}


@pytest.fixture(autouse=True)
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    put_on_path(tmp_path / "bin", monkeypatch)


def decode(source: bytes | Path) -> np.ndarray:
    with open_stream(source, ffmpeg=True) as stream:
        return np.concatenate(list(stream.blocks()))


@pytest.mark.parametrize("name", FORMATS)
def test_sound_is_decoded_and_truncation_found(name: str, tmp_path: Path) -> None:
    content = convert(TONE, tmp_path / name, *FORMATS[name])
    samples = decode(content)
    rate = len(samples) / 3
    assert rate == pytest.approx(48_000 if name.endswith("webm") else RATE, rel=0.04)
    spectrum = np.abs(np.fft.rfft(samples[: int(2.5 * rate), 0]))
    assert spectrum.argmax() / 2.5 == pytest.approx(440, rel=0.04)
    assert np.abs(samples).max() == pytest.approx(0.3, abs=0.05)
    np.testing.assert_array_equal(decode(tmp_path / name), samples)
    for share in (0.6, 0.97):
        with pytest.raises(Truncated):
            decode(content[: int(share * len(content))])


@pytest.mark.parametrize("name", ["aac.m4a", "opus.webm", "flac.ogg", "mp3.wav"])
def test_without_permission_or_program_the_refusal_names_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = convert(TONE, tmp_path / name, *FORMATS[name])
    with pytest.raises(Undecodable, match="is decoded by the program ffmpeg only, which is not used here; use WAV"):
        open_stream(content)
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(Undecodable, match="needs the program ffmpeg: install version 6 or later, or use WAV"):
        open_stream(content, ffmpeg=True)


def test_video_without_sound_is_undecodable(tmp_path: Path) -> None:
    silent = convert(
        TONE, tmp_path / "video.mp4", "-f", "lavfi", "-i", "testsrc=d=1:s=64x64", "-map", "1", "-c:v", "mpeg4"
    )
    with pytest.raises(Undecodable, match="the M4A file has no audio that can be decoded"):
        decode(silent)


def test_a_playlist_cannot_make_it_read_another_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret.wav"
    secret.write_bytes(TONE)
    playlists = (f"ffconcat version 1.0\nfile '{secret}'\n", f"#EXTM3U\n#EXTINF:3,\nfile://{secret}\n#EXT-X-ENDLIST\n")
    for playlist in playlists:
        with pytest.raises(Undecodable):
            decode(playlist.encode())
        # Even if it were given to ffmpeg: the container is named.
        with pytest.raises(Undecodable):
            decode(b"\xff\xf1" + playlist.encode())


def test_the_program_gets_no_environment_and_stops_at_its_limits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = convert(TONE, tmp_path / "aac.m4a", *FORMATS["aac.m4a"])
    monkeypatch.setenv("SECRET", "value")
    with open_stream(content, ffmpeg=True) as stream:
        process = stream._file._process
        assert Path(f"/proc/{process.pid}/environ").read_bytes() == b""
        limits = Path(f"/proc/{process.pid}/limits").read_text()
        assert "Max cpu time              600" in limits and f"Max address space         {2**30}" in limits
    assert process.returncode is not None  # closing ends it
    monkeypatch.setitem(ffmpeg.LIMITS, resource.RLIMIT_AS, 2**20)
    with pytest.raises(AudioError):
        decode(content)


def test_a_program_that_is_killed_gives_no_shorter_recording(tmp_path: Path) -> None:
    content = convert(encode(np.zeros((600 * RATE, 1))), tmp_path / "alac.m4a", "-c:a", "alac")
    with open_stream(content, ffmpeg=True) as stream:
        blocks = stream.blocks()
        next(blocks)
        os.kill(stream._file._process.pid, 9)
        with pytest.raises(Undecodable, match="more time or memory than ffmpeg is given"):
            list(blocks)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(["aac.m4a", "opus.webm", "adts.aac"]),
    edits=st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 255)), min_size=1, max_size=12),
)
def test_any_bytes_give_finite_samples_or_an_audio_error(
    name: str, edits: list[tuple[int, int]], tmp_path: Path
) -> None:
    file = tmp_path / name
    content = bytearray(file.read_bytes() if file.exists() else convert(TONE, file, *FORMATS[name]))
    for position, value in edits:
        if position < len(content):
            content[position] = value
    try:
        samples = decode(bytes(content))
    except AudioError:
        return
    assert np.isfinite(samples).all()
