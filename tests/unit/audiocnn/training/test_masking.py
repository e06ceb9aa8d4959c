"""Masks are spans within their limits."""

import torch
from helpers.augmentation import augment_params, augment_settings, random_spectrograms
from hypothesis import given
from hypothesis import strategies as st

from audiocnn.config import AugmentSettings
from audiocnn.training.augmentation import AugmentParams
from audiocnn.training.masking import ZERO_DB, mask

seeds = st.integers(0, 2**31)


def apply(x: torch.Tensor, params: AugmentParams, settings: AugmentSettings) -> torch.Tensor:
    return mask(x, (params.band_width, params.band_start), (params.frame_width, params.frame_start), settings)


@given(seeds, st.integers(0, 40), st.integers(0, 60))
def test_mask_is_one_band_span_and_one_frame_span_within_limits(seed: int, bands: int, frames: int) -> None:
    x = torch.full((3, 32, 50), -50.0)
    masked = apply(x, augment_params(3, seed), augment_settings(freq_mask=bands, time_mask=frames)) == ZERO_DB
    for clip in masked:
        rows, columns = clip.all(dim=1), clip.all(dim=0)
        assert int(rows.sum()) <= bands and int(columns.sum()) <= frames
        assert torch.equal(clip, rows[:, None] | columns[None, :])
        for line in (rows, columns):
            hidden = line.nonzero().flatten()
            assert len(hidden) == 0 or int(hidden[-1] - hidden[0]) == len(hidden) - 1


def test_mask_can_be_filled_with_the_mean_of_the_clip() -> None:
    x = random_spectrograms(4, 1, 32, 50)
    masked = apply(x, augment_params(1, 5), augment_settings(freq_mask=20, time_mask=30, mask_fill="mean"))
    changed = masked[masked != x]
    assert len(changed) and torch.allclose(changed, x.mean(), atol=1e-3)
