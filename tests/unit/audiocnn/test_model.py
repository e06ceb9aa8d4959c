"""The network's shapes and size."""

import pytest
import torch
from helpers.networks import small_network

from audiocnn.device import DeviceError, resolve_device
from audiocnn.model import ResidualBlock, count_parameters, feature_maps


def test_the_full_network_for_50_classes_has_exactly_the_stated_parameters() -> None:
    assert count_parameters(small_network(50, width=1.0)) == 21_304_050


@pytest.mark.parametrize("frames", [216, 431, 100])
def test_logits_have_a_row_a_clip_for_any_number_of_frames(frames: int) -> None:
    network = small_network(7, width=0.125).eval()
    assert network(torch.zeros(3, 1, 128, frames)).shape == (3, 7)


def test_stages_have_3_4_6_3_blocks_and_halve_the_picture_from_the_second_on() -> None:
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


def test_a_block_keeps_its_input_as_the_skip_and_projects_it_only_where_the_shape_changes() -> None:
    assert isinstance(ResidualBlock(8, 8).skip, torch.nn.Identity)
    assert not isinstance(ResidualBlock(8, 16).skip, torch.nn.Identity)
    assert not isinstance(ResidualBlock(8, 8, stride=2).skip, torch.nn.Identity)
    block = ResidualBlock(4, 4).eval()
    torch.nn.init.zeros_(block.bn2.weight)
    x = torch.rand(2, 4, 5, 6)
    assert torch.equal(block(x), x)


def test_hooks_leave_no_trace_even_after_a_failure() -> None:
    network = small_network(3, width=0.125)
    with pytest.raises(RuntimeError):
        feature_maps(network, torch.zeros(1, 2, 128, 216))
    assert not any(module._forward_hooks for module in network.modules())


def test_every_parameter_gets_a_gradient() -> None:
    network = small_network(3, width=0.125)
    network(torch.randn(4, 1, 128, 64)).sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())


@pytest.mark.parametrize("name", ["cuda:x", "toaster"])
def test_an_unknown_device_is_one_sentence(name: str) -> None:
    with pytest.raises(DeviceError, match="use auto"):
        resolve_device(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_cuda_without_a_gpu_is_refused() -> None:
    with pytest.raises(DeviceError, match="sees no CUDA device"):
        resolve_device("cuda")


@pytest.mark.parametrize("time_stride", [4, 2, 1])
def test_the_least_frames_leave_the_last_stage_two(time_stride: int) -> None:
    network = small_network(3, n_mels=64, time_stride=time_stride).eval()
    least = network.architecture.min_frames
    for frames, wide in ((least, 2), (least - 1, 1)):
        _, maps = feature_maps(network, torch.randn(1, 1, 64, frames))
        assert maps["stage4.2"].shape[-1] == wide
