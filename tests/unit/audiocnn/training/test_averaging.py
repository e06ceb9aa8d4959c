"""The averaged weights follow their formula, and can be saved and restored."""

from copy import deepcopy

import pytest
import torch
from helpers.networks import small_network
from hypothesis import given, settings
from hypothesis import strategies as st

from audiocnn.model import AudioCNN
from audiocnn.training.averaging import AveragedWeights


def fill(network: AudioCNN, value: float) -> None:
    """Set all parameters and float buffers to `value`, and count a batch as batch norm does."""
    for tensor in network.state_dict().values():
        tensor.fill_(value) if tensor.is_floating_point() else tensor.add_(1)


def same(first: AudioCNN, second: AudioCNN) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@settings(max_examples=20)
@given(st.floats(1, 50), st.lists(st.floats(-3, 3, width=32), min_size=1, max_size=8))
def test_average_follows_the_formula(horizon: float, values: list[float]) -> None:
    network = small_network(3)
    fill(network, 1.0)
    average, expected = AveragedWeights(network, horizon), 1.0
    for value in values:
        fill(network, value)
        average.update()
        expected += (value - expected) / horizon
    for name, tensor in average.network.state_dict().items():
        if tensor.is_floating_point():
            assert torch.allclose(tensor, torch.tensor(expected), atol=1e-5), name
        else:
            assert int(tensor) == len(values) + 1, name


def test_share_of_the_initial_weights() -> None:
    network = small_network(3)
    fill(network, 1.0)
    average = AveragedWeights(network, 0.178 * 500)
    fill(network, 0.0)
    for _ in range(500):
        average.update()
    assert float(average.network.stem[0].weight.max()) == pytest.approx(0.0035, abs=0.0002)


@pytest.mark.parametrize("horizon", [0.3, 1.0])
def test_a_horizon_of_one_step_copies_the_network(horizon: float) -> None:
    network = small_network(3)
    average = AveragedWeights(network, horizon)
    fill(network, 0.7)
    average.update()
    assert same(average.network, network)


def test_unchanged_values_stay_bit_identical() -> None:
    network = small_network(3)
    average = AveragedWeights(network, 7)
    before = deepcopy(average.network)
    average.update()
    assert same(average.network, before)


def test_the_network_itself_is_not_changed() -> None:
    network = small_network(3)
    before = deepcopy(network)
    average = AveragedWeights(network, 2)
    fill(average.network, 5.0)
    average.update()
    assert same(network, before)
    assert network.training and all(parameter.requires_grad for parameter in network.parameters())


def test_an_update_reads_no_value() -> None:
    # A CUDA graph captures it. Tensors on the device meta have no values.
    average = AveragedWeights(small_network(3).to("meta"), 5)
    average.update()
    assert average.network.stem[0].weight.is_meta


def test_restored_average_continues() -> None:
    network = small_network(3)
    first = AveragedWeights(network, 5)
    fill(network, 2.0)
    first.update()
    second = AveragedWeights(network, 5)
    second.network.load_state_dict(deepcopy(first.network.state_dict()))
    for average in (first, second):
        average.update()
    assert same(first.network, second.network)
