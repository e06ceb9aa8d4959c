"""Recordings are cut into the same windows, in whatever chunks and whatever blocks they are read."""

from itertools import pairwise

import numpy as np
import pytest
from helpers.audio import RATE, encode
from hypothesis import given, settings
from hypothesis import strategies as st

from audiocnn import audio, streams
from audiocnn.config import SpectrogramSettings
from audiocnn.errors import TooShort, Truncated
from audiocnn.resampling import resample
from audiocnn.streams import open_stream
from audiocnn.windows import CHUNK_SECONDS, Chunk, Grid, chunks, cut

FRONT_END = SpectrogramSettings(rate=RATE, seconds=1.0, n_fft=1024, hop=512, n_mels=64, f_min=0.0, f_max=11_025.0)
GRID = Grid.of(FRONT_END)
SOUND = (np.random.default_rng(0).standard_normal(20 * 48_000) * 0.1).astype(np.float32)


def windows(content: bytes, seconds: float = CHUNK_SECONDS, grid: Grid = GRID) -> tuple[list[float], np.ndarray]:
    with open_stream(content) as stream:
        parts = [cut(chunk, grid) for chunk in chunks(stream, grid, seconds)]
    return [start for part in parts for start in part.starts], np.concatenate([part.waveforms for part in parts])


@settings(max_examples=60)
@given(
    length=st.integers(RATE // 10, 12 * RATE),
    rate=st.sampled_from([RATE, 44_100, 48_000, 16_000]),
    seconds=st.sampled_from([0.5, 1.0, 1.5, 4.0, 60.0]),
)
def test_windows_are_those_of_the_whole_recording(length: int, rate: int, seconds: float) -> None:
    content = encode(SOUND[: length * rate // RATE], rate, subtype="FLOAT")
    whole = resample(audio.decode(content).mono, rate, RATE)
    starts, waveforms = windows(content, seconds)
    positions = [round(start * RATE) for start in starts]
    assert positions == GRID.starts(len(whole))
    for position, waveform in zip(positions, waveforms, strict=True):
        part = whole[position : position + RATE]
        np.testing.assert_array_equal(waveform[: len(part)], part)
        assert not waveform[len(part) :].any()


@pytest.mark.parametrize("count", range(5, 12))
def test_short_windows_are_those_of_the_whole_recording(count: int) -> None:
    grid = Grid(RATE, 0.125)  # a hop is shorter than MIN_SECONDS
    length = grid.samples + count * grid.hop
    starts, _ = windows(encode(SOUND[:length]), 0.5, grid)
    assert [round(start * RATE) for start in starts] == grid.starts(length)


@given(length=st.integers(1, 100 * RATE))
def test_windows_cover_the_recording_and_overlap_by_half(length: int) -> None:
    starts = GRID.starts(length)
    assert starts[0] == 0 and starts == sorted(set(starts))
    assert all(after - before <= RATE // 2 for before, after in pairwise(starts))
    assert length - RATE // 10 <= starts[-1] + RATE
    assert starts == [0] or starts[-1] + RATE <= length


@pytest.mark.parametrize("rate", [RATE, 44_100, 8_000])
@pytest.mark.parametrize("seconds", [0.1, 0.7, 1.0, 1.1])
def test_a_recording_of_one_window_is_given_to_the_network_as_in_training(rate: int, seconds: float) -> None:
    content = encode(SOUND[: int(seconds * rate)], rate)
    starts, waveforms = windows(content)
    assert starts == [0.0]
    np.testing.assert_array_equal(waveforms[0], audio.load(content, FRONT_END))


def test_small_blocks_give_the_same_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    content = encode(SOUND[: 5 * 44_100], 44_100, container="FLAC")
    expected = windows(content)
    monkeypatch.setattr(streams, "BLOCK_SAMPLES", 777)
    np.testing.assert_array_equal(windows(content)[1], expected[1])


def test_only_silent_windows_are_silent() -> None:
    sound = np.concatenate([np.zeros(3 * RATE), SOUND[:RATE], np.zeros(2 * RATE)])
    part = cut(Chunk(10.0, sound.astype(np.float32)), GRID)
    assert part.starts == (10.0, 10.5, 11.0, 11.5, 12.0, 12.5, 13.0, 13.5, 14.0, 14.5, 15.0)
    assert part.silent.tolist() == [True] * 5 + [False] * 3 + [True] * 3


def test_a_window_beside_a_sound_is_silent_after_resampling_too() -> None:
    sound = np.concatenate([np.zeros(2 * 44_100), 0.9 * np.sign(SOUND[: 2 * 44_100])])
    with open_stream(encode(sound, 44_100)) as stream:
        (chunk,) = chunks(stream, GRID)
    assert np.abs(chunk.waveform[: 2 * RATE]).max() > audio.SILENCE_THRESHOLD  # the filter's ringing
    assert cut(chunk, GRID).silent.tolist() == [True, True, True, False, False, False, False]


def test_a_click_in_the_only_window_is_heard() -> None:
    click = np.zeros(RATE, np.float32)
    click[100] = 0.5
    assert not cut(Chunk(0.0, click), GRID).silent.any()


def test_a_recording_below_the_minimum_duration_is_refused() -> None:
    with pytest.raises(TooShort, match=r"lasts 0\.099 s; the minimum is 0\.1 s"):
        windows(encode(SOUND[:2190]))


def test_truncation_is_found_after_the_chunks_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "BLOCK_SAMPLES", RATE)
    content = encode(SOUND, container="FLAC")
    with open_stream(content[: len(content) * 3 // 4]) as stream:
        found = chunks(stream, GRID, 2.0)
        assert [next(found).start for _ in range(3)] == [0.0, 1.5, 3.0]
        with pytest.raises(Truncated):
            list(found)
