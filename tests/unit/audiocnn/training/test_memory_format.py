"""Memory formats: the fast one where PyTorch's kernels support it, and one for weights and moments."""

import os
import subprocess
import sys

import pytest
import torch
from helpers.networks import small_network
from helpers.project import ROOT

from audiocnn.training.memory_format import match_memory_format, memory_format

CPU = torch.device("cpu")
STEP = """
import torch
from helpers.networks import small_network
from audiocnn.training.memory_format import memory_format
torch.set_num_threads(1)
for width in (0.0625, 0.1, 0.125, 0.25):
    network = small_network(10, width=width)
    network.to(memory_format=memory_format(network, torch.device("cpu")))
    for clips, frames in ((32, 216), (7, 216), (16, 431)):
        network(torch.randn(clips, 1, 128, frames)).square().mean().backward()
"""


@pytest.mark.parametrize("isa", ["AVX2", "DEFAULT"])
def test_training_step_does_not_crash_on_any_instruction_set(isa: str) -> None:
    # In channels last, oneDNN's AVX2 kernels crashed on 4 and 6 filters, its AVX-512 kernels on 8 and 431 frames.
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": isa, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    done = subprocess.run([sys.executable, "-c", STEP], env=environment, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]


def test_all_convolutions_run_in_channels_last() -> None:
    network = small_network(10, width=0.25)
    network.to(memory_format=memory_format(network, CPU))
    formats = []
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(
                lambda _layer, _inputs, output: formats.append(output.is_contiguous(memory_format=torch.channels_last))
            )
    network(torch.randn(4, 128, 216).unsqueeze(1))
    assert len(formats) == 36 and all(formats)


def test_filters_not_divisible_by_16_use_the_contiguous_format() -> None:
    assert memory_format(small_network(10, width=0.125), CPU) is torch.contiguous_format
    assert memory_format(small_network(10, width=0.25), CPU) is torch.channels_last


def test_loaded_moments_get_the_strides_of_their_weights() -> None:
    """As on a resume from a GPU's checkpoint on a CPU: the fused AdamW iterates over memory."""

    def optimizer(layout: torch.memory_format) -> tuple[torch.nn.Conv2d, torch.optim.Optimizer]:
        convolution = torch.nn.Conv2d(8, 8, 3).to(memory_format=layout)
        return convolution, torch.optim.AdamW(convolution.parameters(), fused=True)

    source, saved = optimizer(torch.channels_last)
    source(torch.randn(2, 8, 9, 9)).square().sum().backward()
    saved.step()
    target, loaded = optimizer(torch.contiguous_format)
    loaded.load_state_dict(saved.state_dict())
    match_memory_format(loaded)
    for name in ("exp_avg", "exp_avg_sq"):
        found, written = loaded.state[target.weight][name], saved.state[source.weight][name]
        assert found.stride() == target.weight.stride() != written.stride()
        assert torch.equal(found, written)
