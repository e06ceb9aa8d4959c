"""Warps move tones to the right band and time; a circular shift loses no frame."""

import pytest
import torch
from helpers.augmentation import random_spectrograms
from hypothesis import given
from hypothesis import strategies as st

from audiocnn.training.warping import equalize, warp_bands, warp_time

BANDS, FRAMES = 32, 50
seeds = st.integers(0, 2**31)


def each(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)


@given(seeds, st.integers(0, FRAMES - 1))
def test_shift_by_whole_frames_only_reorders_them(seed: int, frames: int) -> None:
    x = random_spectrograms(seed, 2, 4, 64)
    shifted = warp_time(x, each(1, 1), each(0, frames / 64))
    assert torch.equal(shifted[0], x[0])
    assert torch.equal(shifted[1], x[1].roll(-frames, 1))


@given(st.floats(0, 1, exclude_max=True, width=32))
def test_circular_shift_loses_no_frame(shift: float) -> None:
    # Band b of the input is 1 in frame b: the sum over the output is the weight that the frame has in it.
    shifted = warp_time(torch.eye(FRAMES)[None], each(1), each(shift))
    assert torch.allclose(shifted.sum(2), torch.ones(1, FRAMES), atol=1e-4)


@given(st.floats(-0.3, 0.3), st.integers(0, FRAMES - 1))
def test_tempo_moves_an_impulse_to_the_right_time(octaves: float, frame: int) -> None:
    x = torch.zeros(1, BANDS, FRAMES)
    x[:, :, frame] = 1.0
    rate = 2**octaves
    warped = warp_time(x, each(rate), each(0))[0]
    assert torch.equal(warped, warped[:1].expand(BANDS, FRAMES))
    for output, value in enumerate(warped[0].tolist()):
        distance = abs((output * rate - frame + FRAMES / 2) % FRAMES - FRAMES / 2)
        assert value == pytest.approx(max(0.0, 1 - distance), abs=1e-4)


@given(st.floats(-0.1, 0.1), st.floats(-5, 5), st.integers(0, BANDS - 1))
def test_pitch_moves_a_tone_to_the_right_band(octaves: float, shift: float, band: int) -> None:
    x = torch.zeros(1, BANDS, FRAMES)
    x[:, band] = 1.0
    scale = 2**octaves
    warped = warp_bands(x, each(scale), each(shift))[0]
    assert torch.equal(warped, warped[:, :1].expand(BANDS, FRAMES))
    for output, value in enumerate(warped[:, 0].tolist()):
        position = min(max(output * scale + shift, 0), BANDS - 1)
        assert value == pytest.approx(max(0.0, 1 - abs(position - band)), abs=1e-4)


def test_bands_beyond_the_edge_repeat_the_outermost_one() -> None:
    x = random_spectrograms(0, 2, BANDS, FRAMES)
    warped = warp_bands(x, each(1, 1), each(5, -5))
    assert torch.equal(warped[0, :-5], x[0, 5:]) and torch.equal(warped[0, -5:], x[0, -1:].expand(5, FRAMES))
    assert torch.equal(warped[1, 5:], x[1, :-5]) and torch.equal(warped[1, :5], x[1, :1].expand(5, FRAMES))


@given(seeds)
def test_neutral_parameters_change_nothing(seed: int) -> None:
    x = random_spectrograms(seed, 2, BANDS, FRAMES)
    assert torch.equal(warp_time(x, each(1, 1), each(0, 0)), x)
    assert torch.equal(warp_bands(x, each(1, 1), each(0, 0)), x)
    assert torch.equal(equalize(x, torch.zeros(2, 6)), x)


@given(seeds)
def test_equalizer_adds_gains_interpolated_over_the_bands(seed: int) -> None:
    gains = 4 * torch.randn((2, 6), generator=torch.Generator().manual_seed(seed))
    added = equalize(torch.zeros(2, 51, FRAMES), gains)
    assert torch.allclose(added[:, ::10, 0], gains, atol=1e-5)
    assert torch.allclose(added[:, 5, 0], (gains[:, 0] + gains[:, 1]) / 2, atol=1e-5)
    assert torch.equal(added, added[:, :, :1].expand_as(added))
