"""Shapes and size of the network."""

import pytest
import torch
from helpers.networks import small_network

from audiocnn.model import ResidualBlock, count_parameters, feature_maps


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


def test_every_parameter_gets_a_gradient() -> None:
    network = small_network(3, width=0.125)
    network(torch.randn(4, 1, 128, 64)).sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())


@pytest.mark.parametrize("time_stride", [4, 2, 1])
def test_min_frames_makes_the_last_feature_maps_two_frames_wide(time_stride: int) -> None:
    network = small_network(3, n_mels=64, time_stride=time_stride).eval()
    frames = network.architecture.min_frames
    for count, width in ((frames, 2), (frames - 1, 1)):
        _, maps = feature_maps(network, torch.randn(1, 1, 64, count))
        assert maps["stage4.2"].shape[-1] == width
