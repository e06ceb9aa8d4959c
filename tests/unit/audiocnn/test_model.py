"""Shapes and size of the network."""

import pytest
import torch
from helpers.networks import small_network
from helpers.project import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from audiocnn.config import MIN_FRAMES
from audiocnn.model import STAGES, AudioCNN, ResidualBlock, SqueezeExcitation, count_parameters, feature_maps
from pipeline import settings as pipeline_settings


def test_the_full_network_with_50_classes_has_21_million_parameters() -> None:
    assert count_parameters(small_network(50, width=1.0)) == 21_304_050


@pytest.mark.parametrize("frames", [216, 431, 100])
def test_logits_have_one_row_per_clip_for_any_number_of_frames(frames: int) -> None:
    network = small_network(7, width=0.125).eval()
    assert network(torch.zeros(3, 1, 128, frames)).shape == (3, 7)


def test_stages_have_3_4_6_3_blocks_and_halve_the_size_from_the_second() -> None:
    network = small_network(5, width=0.125).eval()
    _, maps = feature_maps(network, torch.zeros(1, 1, 128, 216))
    blocks = [name for name in maps if name != "stem"]
    assert [sum(name.startswith(f"stage{n}.") for name in blocks) for n in (1, 2, 3, 4)] == [3, 4, 6, 3]
    shapes = {name: tuple(maps[name].shape[1:]) for name in ("stem", "stage1.2", "stage2.3", "stage3.5", "stage4.2")}
    assert shapes == {
        "stem": (8, 32, 54),
        "stage1.2": (8, 32, 54),
        "stage2.3": (16, 16, 27),
        "stage3.5": (32, 8, 14),
        "stage4.2": (64, 4, 7),
    }


def test_the_skip_connection_is_projected_only_if_the_shape_changes() -> None:
    assert isinstance(ResidualBlock(8, 8).skip, torch.nn.Identity)
    assert not isinstance(ResidualBlock(8, 16).skip, torch.nn.Identity)
    assert not isinstance(ResidualBlock(8, 8, stride=2).skip, torch.nn.Identity)
    block = ResidualBlock(4, 4).eval()
    torch.nn.init.zeros_(block.bn2.weight)
    x = torch.rand(2, 4, 5, 6)
    assert torch.equal(block(x), x)


def test_hooks_are_removed_after_a_failed_forward_pass() -> None:
    network = small_network(3, width=0.125)
    with pytest.raises(RuntimeError):
        feature_maps(network, torch.zeros(1, 2, 128, 216))
    assert not any(module._forward_hooks for module in network.modules())


@pytest.mark.parametrize("layers", [{}, {"frequency_channel": True, "squeeze_excitation": True}])
def test_every_parameter_gets_a_gradient(layers: dict) -> None:
    network = small_network(3, width=0.125, **layers)
    network(torch.randn(4, 1, 128, 64)).sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())


def test_min_frames_makes_the_last_feature_maps_two_frames_wide() -> None:
    network = small_network(3, n_mels=64).eval()
    for count, width in ((MIN_FRAMES, 2), (MIN_FRAMES - 1, 1)):
        _, maps = feature_maps(network, torch.randn(1, 1, 64, count))
        assert maps["stage4.2"].shape[-1] == width


@settings(max_examples=25)
@given(st.integers(0, 2**31), st.floats(-3, 3), st.sampled_from([1, 7, 8, 64]))
def test_squeeze_excitation_multiplies_channels_by_gates_between_0_and_1(seed: int, level: float, n: int) -> None:
    torch.manual_seed(seed)
    layer = SqueezeExcitation(n)
    x = torch.randn(3, n, 4, 5) + level
    gates = layer.gate(x.mean((2, 3)))
    assert gates.shape == (3, n) and ((gates > 0) & (gates < 1)).all()
    assert torch.equal(layer(x), x * gates[:, :, None, None])


def test_squeeze_excitation_is_between_the_second_batch_norm_and_the_skip_connection() -> None:
    block = ResidualBlock(16, 16, squeeze_excitation=True).eval()
    assert [layer.out_features for layer in block.excitation.gate if isinstance(layer, torch.nn.Linear)] == [2, 16]
    block.excitation.gate[2].weight.data.zero_()
    block.excitation.gate[2].bias.data.fill_(-1e4)  # all gates are 0
    x = torch.rand(2, 16, 5, 6)
    assert torch.equal(block(x), x)


def test_frequency_channel_holds_the_position_of_each_band() -> None:
    network, inputs = small_network(3, n_mels=64, frequency_channel=True).eval(), []
    network.stem.register_forward_pre_hook(lambda _layer, x: inputs.append(x[0]))
    x = torch.randn(2, 1, 64, 40)
    network(x)
    assert inputs[0].shape == (2, 2, 64, 40) and torch.equal(inputs[0][:, :1], x)
    positions = inputs[0][:, 1]
    assert torch.equal(positions, torch.linspace(-1, 1, 64)[:, None].expand(2, 64, 40))
    assert "positions" not in network.state_dict()


def test_the_network_of_the_recipe_strong() -> None:
    train = pipeline_settings.load(ROOT / "params.yaml", {"recipe": "strong"}).train
    network = AudioCNN(50, 128, train.architecture)
    assert sum(isinstance(layer, SqueezeExcitation) for layer in network.modules()) == 16
    # 7x7 weights of the second input channel; gates with an eighth of the channels in between, in every block
    gates = sum(blocks * (2 * n * n // 8 + n + n // 8) for n, blocks in STAGES)
    assert count_parameters(network) == 21_304_050 + 64 * 49 + gates
    assert network.eval()(torch.zeros(1, 1, 128, 431)).shape == (1, 50)
