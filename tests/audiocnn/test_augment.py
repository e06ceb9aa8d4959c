"""Mixing and masking do what the formulas say, and the same for the same generator."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from audiocnn.augment import MASK_DB, mask, mixup, one_hot


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(st.integers(0, 2**31), st.floats(0.05, 5))
def test_mixup_mixes_pictures_and_targets_with_the_same_weight(seed: int, alpha: float) -> None:
    targets = one_hot(torch.arange(6), 6)
    mixed, mixed_targets = mixup(targets[:, :, None] * torch.ones(6, 6, 4), targets, alpha, 1.0, generator(seed))
    # A clip's picture is its own one-hot target, so both must come out the same.
    assert torch.allclose(mixed[:, :, 0], mixed_targets, atol=1e-6)
    assert torch.allclose(mixed_targets.sum(dim=1), torch.ones(6), atol=1e-6)


def test_mixup_touches_the_stated_share_of_batches() -> None:
    x, y, draw = torch.rand(4, 2, 2), one_hot(torch.arange(4), 4), generator()
    touched = sum(not torch.equal(mixup(x, y, 0.2, 0.3, draw)[1], y) for _ in range(1000))
    # Of the 30 % drawn, 1 in 24 permutations is the identity, and Beta(0.2, 0.2) lies at 0 or 1 often.
    assert 200 < touched < 330
    assert torch.equal(mixup(x, y, 0.2, 0.0, draw)[0], x)


def test_mixup_s_weights_follow_the_beta_distribution() -> None:
    x, y, draw = torch.zeros(2, 1, 1), one_hot(torch.arange(2), 2), generator()
    x[0] = 1.0
    weights = torch.stack([mixup(x, y, 0.2, 1.0, draw)[0][0, 0, 0] for _ in range(4000)])
    expected = torch.distributions.Beta(0.2, 0.2).variance
    moved = weights[(weights > 0) & (weights < 1)]
    assert abs(float(weights.mean()) - 0.75) < 0.03  # half of the permutations keep the clip, then the mean is 1
    assert 0.5 * float(expected) < float(moved.var()) < 1.5 * float(expected)


@given(st.integers(0, 2**31), st.integers(0, 40), st.integers(0, 60))
def test_a_mask_is_one_band_and_one_stretch_narrower_than_allowed(seed: int, bands: int, frames: int) -> None:
    masked = mask(torch.full((3, 32, 50), -50.0), bands, frames, generator(seed)) == MASK_DB
    for clip in masked:
        rows, columns = clip.all(dim=1), clip.all(dim=0)
        assert int(rows.sum()) <= bands and int(columns.sum()) <= frames
        assert torch.equal(clip, rows[:, None] | columns[None, :])
        for line in (rows, columns):
            hidden = line.nonzero().flatten()
            assert len(hidden) == 0 or int(hidden[-1] - hidden[0]) == len(hidden) - 1


def test_clips_of_a_batch_get_masks_of_their_own_and_a_generator_repeats_them() -> None:
    x = torch.full((8, 32, 50), -50.0)
    first, again = mask(x, 16, 20, generator(5)), mask(x, 16, 20, generator(5))
    assert torch.equal(first, again)
    assert len({tuple(clip.flatten().tolist()) for clip in first}) == 8
