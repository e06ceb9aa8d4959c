"""Mixing and masking follow their formulas and are reproducible."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from audiocnn.config import AugmentSettings
from audiocnn.strict_model import SettingsError
from audiocnn.training.augmentation import ZERO_DB, AugmentParams, augment, mask, mix_power, mixup, one_hot

CPU = torch.device("cpu")
OFF = {"mix": "none", "freq_mask": 0, "time_mask": 0, "mask_fill": "zero"}
OFF |= {"mix_alpha": 1.0, "mix_share": 1.0}
seeds = st.integers(0, 2**31)


def settings(**changes: Any) -> AugmentSettings:
    return AugmentSettings.parse(OFF | changes, "test")


def params(clips: int, seed: int = 0, batch_size: int = 8, **changes: Any) -> AugmentParams:
    generator = torch.Generator().manual_seed(seed)
    return AugmentParams.sample(clips, batch_size, settings(**changes), generator, CPU)


def spectrograms(seed: int, *shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 80 - 80


def test_augmentation_without_mixing_and_masks_changes_nothing() -> None:
    x, y = spectrograms(0, 4, 16, 20), one_hot(torch.arange(4), 4)
    same, targets = augment(x, y, params(4), settings())
    assert torch.equal(same, x) and torch.equal(targets, y)


@given(seeds)
def test_all_augmentations_keep_shapes_and_finite_values(seed: int) -> None:
    all_on = {"mix": "power", "freq_mask": 5, "time_mask": 9, "mask_fill": "mean"}
    x, y = spectrograms(seed, 6, 16, 20), one_hot(torch.arange(6) % 3, 3)
    x[0] = -100.0  # digital silence
    first, targets = augment(x, y, params(6, seed, **all_on), settings(**all_on))
    again, _ = augment(x, y, params(6, seed, **all_on), settings(**all_on))
    assert first.shape == x.shape and torch.isfinite(first).all() and torch.equal(first, again)
    assert torch.allclose(targets.sum(1), torch.ones(6)) and (targets >= 0).all()


@given(seeds, st.floats(0.05, 5))
def test_mixup_uses_one_weight_for_inputs_and_targets(seed: int, alpha: float) -> None:
    targets = one_hot(torch.arange(6), 6)
    weight = params(6, seed, mix="mixup", mix_alpha=alpha).weight
    mixed, mixed_targets = mixup(targets[:, :, None] * torch.ones(6, 6, 4), targets, weight)
    # Each spectrogram is the clip's one-hot target, so the mixtures must be equal.
    assert torch.allclose(mixed[:, :, 0], mixed_targets, atol=1e-6)
    assert torch.allclose(mixed_targets.sum(dim=1), torch.ones(6), atol=1e-6)
    assert len(weight.unique()) == 1  # one for the whole batch


def test_mixup_mixes_mix_share_of_batches_with_beta_weights() -> None:
    weight = params(80_000, mix="mixup", mix_alpha=0.2, mix_share=0.3).weight
    batches = weight.reshape(-1, 8)
    assert (batches == batches[:, :1]).all()
    mixed = batches[:, 0][batches[:, 0] < 1]
    # Of the 30 % drawn, Beta(0.2, 0.2) rounds to 1 now and then.
    assert 0.25 < len(mixed) / len(batches) < 0.31
    assert abs(float(mixed.mean()) - 0.5) < 0.03
    assert abs(float(mixed.var()) / float(torch.distributions.Beta(0.2, 0.2).variance) - 1) < 0.1


def test_power_mixing_has_a_weight_for_every_clip() -> None:
    weight = params(20_000, mix="power", mix_alpha=1.0, mix_share=0.5).weight
    assert 0.48 < float((weight == 1).float().mean()) < 0.52
    assert abs(float(weight[weight < 1].mean()) - 0.5) < 0.02


@given(seeds, st.floats(0.01, 0.99))
def test_power_mixing_follows_the_formula_of_the_paper(seed: int, weight: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    power = torch.rand((2, 3, 5), generator=generator) + 0.01
    gains = [10 * float(clip.mean().log10()) for clip in power]
    p = 1 / (1 + 10 ** ((gains[0] - gains[1]) / 20) * (1 - weight) / weight)
    expected = (p**2 * power[0] + (1 - p) ** 2 * power[1]) / (p**2 + (1 - p) ** 2)
    mixed, targets = mix_power(10 * power.log10(), one_hot(torch.arange(2), 2), torch.tensor([weight, 1.0]))
    assert torch.allclose(mixed[0], 10 * expected.log10(), atol=1e-3)
    assert torch.allclose(targets[0], torch.tensor([weight, 1 - weight]), atol=1e-6)
    assert torch.allclose(mixed[1], 10 * power[1].log10(), atol=1e-4)  # a weight of 1 leaves a clip unmixed


def test_power_mixing_of_equal_levels_keeps_the_level() -> None:
    x = torch.stack([torch.full((4, 4), -20.0), torch.full((4, 4), -20.0)])
    mixed, _ = mix_power(x, one_hot(torch.arange(2), 2), torch.tensor([0.5, 0.5]))
    assert torch.allclose(mixed, x, atol=1e-5)


def test_power_mixing_with_weight_0_gives_the_next_clip() -> None:
    x = spectrograms(1, 2, 4, 6)
    mixed, targets = mix_power(x, one_hot(torch.arange(2), 2), torch.tensor([0.0, 1.0]))
    assert torch.allclose(mixed[0], x[1], atol=1e-4) and targets[0].tolist() == [0.0, 1.0]


@given(seeds, st.integers(0, 40), st.integers(0, 60))
def test_mask_is_one_band_span_and_one_frame_span_within_limits(seed: int, bands: int, frames: int) -> None:
    x = torch.full((3, 32, 50), -50.0)
    masked = mask(x, params(3, seed), settings(freq_mask=bands, time_mask=frames)) == ZERO_DB
    for clip in masked:
        rows, columns = clip.all(dim=1), clip.all(dim=0)
        assert int(rows.sum()) <= bands and int(columns.sum()) <= frames
        assert torch.equal(clip, rows[:, None] | columns[None, :])
        for line in (rows, columns):
            hidden = line.nonzero().flatten()
            assert len(hidden) == 0 or int(hidden[-1] - hidden[0]) == len(hidden) - 1


def test_mask_can_be_filled_with_the_mean_of_the_clip() -> None:
    x = spectrograms(4, 1, 32, 50)
    masked = mask(x, params(1, 5), settings(freq_mask=20, time_mask=30, mask_fill="mean"))
    changed = masked[masked != x]
    assert len(changed) and torch.allclose(changed, x.mean(), atol=1e-3)


def test_params_differ_by_clip_and_repeat_with_the_generator() -> None:
    first, again, other = params(8, 5), params(8, 5), params(8, 6)
    assert torch.equal(first.band_start, again.band_start) and not torch.equal(first.band_start, other.band_start)
    assert len(set(first.frame_start.tolist())) == 8
    assert torch.equal(first[2:5].band_width, first.band_width[2:5])


@pytest.mark.parametrize(
    ("key", "value"), [("mix_share", 1.1), ("mix_alpha", 0.0), ("mix", "blend"), ("time_mask", -1)]
)
def test_invalid_settings_are_refused(key: str, value: object) -> None:
    with pytest.raises(SettingsError, match=key):
        settings(**{key: value})
