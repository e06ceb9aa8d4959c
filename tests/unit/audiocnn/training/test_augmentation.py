"""Augmentation changes what its settings name, and repeats with its random numbers."""

from dataclasses import asdict

import pytest
import torch
from helpers.augmentation import ALL, CPU, augment_params, augment_settings, random_spectrograms
from hypothesis import given
from hypothesis import strategies as st

from audiocnn.strict_model import SettingsError
from audiocnn.training.augmentation import AugmentParams, augment, one_hot
from audiocnn.training.schedule import derive_seed

seeds = st.integers(0, 2**31)


@given(seeds)
def test_settings_that_are_off_change_nothing(seed: int) -> None:
    x, y = random_spectrograms(seed, 4, 16, 20), one_hot(torch.arange(4), 4)
    same, targets = augment(x, y, augment_params(4, seed), augment_settings())
    assert torch.equal(same, x) and torch.equal(targets, y)


@given(seeds)
def test_all_augmentations_keep_shapes_and_finite_values(seed: int) -> None:
    x, y = random_spectrograms(seed, 6, 16, 20), one_hot(torch.arange(6) % 3, 3)
    x[0] = -100.0  # digital silence
    first, targets = augment(x, y, augment_params(6, seed, **ALL), augment_settings(**ALL))
    again, _ = augment(x, y, augment_params(6, seed, **ALL), augment_settings(**ALL))
    assert first.shape == x.shape and torch.isfinite(first).all() and torch.equal(first, again)
    assert torch.allclose(targets.sum(1), torch.ones(6)) and (targets >= 0).all()


@pytest.mark.parametrize("changes", [{}, {"mix": "mixup", "mask_fill": "zero"}], ids=["power", "mixup"])
def test_no_value_is_read_and_no_shape_depends_on_values(changes: dict) -> None:
    # Tensors on the device meta have shapes only. A CUDA graph cannot capture what they cannot compute.
    settings, meta = augment_settings(**ALL | changes), torch.device("meta")
    params = AugmentParams.sample(12, 6, settings, torch.Generator().manual_seed(0), meta)
    batch = params[torch.arange(6, device=meta)]
    spectrograms, targets = augment(
        torch.empty(6, 16, 20, device=meta), torch.empty(6, 3, device=meta), batch, settings
    )
    assert (spectrograms.shape, targets.shape) == ((6, 16, 20), (6, 3)) and spectrograms.device == meta


@pytest.mark.parametrize("key", ["roll", "tempo", "pitch_scale", "pitch_shift", "equalizer_db"])
def test_each_setting_changes_the_clips_and_not_the_targets(key: str) -> None:
    x, y = random_spectrograms(3, 4, 16, 20), one_hot(torch.arange(4), 4)
    changed, targets = augment(x, y, augment_params(4, 3, **{key: ALL[key]}), augment_settings(**{key: ALL[key]}))
    assert all(not torch.equal(*clips) for clips in zip(changed, x, strict=True))
    assert torch.equal(targets, y)


def test_params_are_within_their_limits() -> None:
    params = augment_params(20_000, **ALL)
    assert 0 <= params.time_shift.min() < 0.01 and 0.99 < params.time_shift.max() < 1
    for values, limit in (
        (params.rate.log2(), 0.3), (params.band_scale.log2(), 0.1), (params.band_shift, 5),
    ):  # fmt: skip
        assert -limit * 1.0001 < values.min() < -0.99 * limit and 0.99 * limit < values.max() < limit * 1.0001
        assert abs(float(values.mean())) < 0.02 * limit
    assert params.gains.shape == (20_000, 6)
    assert float(params.gains.std()) == pytest.approx(4, rel=0.01) and abs(float(params.gains.mean())) < 0.05


def test_a_setting_that_is_switched_on_keeps_the_numbers_before_it() -> None:
    before, after = augment_params(16, **ALL | {"equalizer_db": 0, "pitch_shift": 0}), augment_params(16, **ALL)
    changed = {name for name, value in asdict(after).items() if not torch.equal(value, getattr(before, name))}
    assert changed == {"band_shift", "gains"}


def test_params_differ_by_clip_and_repeat_with_the_generator() -> None:
    first, again, other = (augment_params(8, seed, **ALL) for seed in (5, 5, 6))
    for name, value in asdict(first).items():
        assert torch.equal(value, getattr(again, name)) and not torch.equal(value, getattr(other, name)), name
        if name != "weight":  # half of the clips are unmixed
            assert len(value.unique(dim=0)) == 8, name


@given(st.integers(0, 5), st.integers(1, 3), st.integers(0, 3))
def test_params_follow_seed_epoch_and_step(seed: int, epoch: int, step: int) -> None:
    def draw(*numbers: int) -> AugmentParams:
        generator = torch.Generator().manual_seed(derive_seed(*numbers))
        return AugmentParams.sample(32, 8, augment_settings(**ALL), generator, CPU)

    clips = torch.arange(8 * step, 8 * step + 8)
    whole, again, next_epoch = draw(seed, epoch), draw(seed, epoch), draw(seed, epoch + 1)
    by_slice, by_position = whole[8 * step : 8 * step + 8], again[clips]
    for name, value in asdict(by_slice).items():
        assert torch.equal(value, getattr(by_position, name)), name
        assert len(value) == 8 and not torch.equal(value, getattr(next_epoch[clips], name)), name


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("mix_share", 1.1),
        ("mix_alpha", 0.0),
        ("mix", "blend"),
        ("time_mask", -1),
        ("tempo", 2.1),
        ("pitch_scale", -0.1),
        ("pitch_shift", -1),
        ("equalizer_db", float("inf")),
        ("roll", 0.5),
    ],
)
def test_invalid_settings_are_refused(key: str, value: object) -> None:
    with pytest.raises(SettingsError, match=key):
        augment_settings(**{key: value})
