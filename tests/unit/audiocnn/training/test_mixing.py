"""Mixing follows its formulas."""

import torch
from helpers.augmentation import augment_params, random_spectrograms
from hypothesis import given
from hypothesis import strategies as st

from audiocnn.training.augmentation import one_hot
from audiocnn.training.mixing import mix_power, mixup

seeds = st.integers(0, 2**31)


@given(seeds, st.floats(0.05, 5))
def test_mixup_uses_one_weight_for_inputs_and_targets(seed: int, alpha: float) -> None:
    targets = one_hot(torch.arange(6), 6)
    weight = augment_params(6, seed, mix="mixup", mix_alpha=alpha).weight
    mixed, mixed_targets = mixup(targets[:, :, None] * torch.ones(6, 6, 4), targets, weight)
    # Each spectrogram is the clip's one-hot target, so the mixtures must be equal.
    assert torch.allclose(mixed[:, :, 0], mixed_targets, atol=1e-6)
    assert torch.allclose(mixed_targets.sum(dim=1), torch.ones(6), atol=1e-6)
    assert len(weight.unique()) == 1  # one for the whole batch


def test_mixup_mixes_mix_share_of_batches_with_beta_weights() -> None:
    weight = augment_params(80_000, mix="mixup", mix_alpha=0.2, mix_share=0.3).weight
    batches = weight.reshape(-1, 8)
    assert (batches == batches[:, :1]).all()
    mixed = batches[:, 0][batches[:, 0] < 1]
    # Of the 30 % drawn, Beta(0.2, 0.2) rounds to 1 now and then.
    assert 0.25 < len(mixed) / len(batches) < 0.31
    assert abs(float(mixed.mean()) - 0.5) < 0.03
    assert abs(float(mixed.var()) / float(torch.distributions.Beta(0.2, 0.2).variance) - 1) < 0.1


def test_power_mixing_has_a_weight_for_every_clip() -> None:
    weight = augment_params(20_000, mix="power", mix_alpha=1.0, mix_share=0.5).weight
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
    x = random_spectrograms(1, 2, 4, 6)
    mixed, targets = mix_power(x, one_hot(torch.arange(2), 2), torch.tensor([0.0, 1.0]))
    assert torch.allclose(mixed[0], x[1], atol=1e-4) and targets[0].tolist() == [0.0, 1.0]


@given(seeds, st.floats(0.01, 0.99), st.floats(-60, 60))
def test_power_mixing_lies_between_the_two_clips(seed: int, weight: float, gain: float) -> None:
    x = random_spectrograms(seed, 2, 8, 10)
    x[1] += gain
    mixed, _ = mix_power(x, one_hot(torch.arange(2), 2), torch.tensor([weight, weight]))
    energy, before = (10 ** (clips.double() / 10) for clips in (mixed, x))
    # A weighted mean of the powers, with weights that sum to 1: every cell lies between those of the two clips.
    low, high = before.amin(0), before.amax(0)
    assert ((energy >= low * 0.999) & (energy <= high * 1.001)).all()
