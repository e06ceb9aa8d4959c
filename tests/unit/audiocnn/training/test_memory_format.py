"""The layout of convolutions: the fast one, and only where PyTorch's kernels are sound."""

import os
import subprocess
import sys

import pytest
import torch
from helpers.networks import small_network
from helpers.project import ROOT

from audiocnn.training.loop import memory_format

STEP = """
import sys, torch
from support import small_network
from audiocnn.training import memory_format
torch.set_num_threads(1)
for width in (0.0625, 0.1, 0.125, 0.25):
    network = small_network(10, width=width)
    network.to(memory_format=memory_format(network, torch.device("cpu")))
    for clips in (32, 7):
        network(torch.randn(clips, 1, 128, 216)).square().mean().backward()
"""


@pytest.mark.parametrize("kernels", ["AVX2", "DEFAULT"])
def test_a_training_step_survives_on_processors_old_and_new(kernels: str) -> None:
    # oneDNN's AVX2 kernels, which machines without AVX-512 take, crashed on 4 and 6 filters with channels last.
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": kernels, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    done = subprocess.run([sys.executable, "-c", STEP], env=environment, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_whole_network_runs_with_channels_last() -> None:
    cpu = torch.device("cpu")
    network = small_network(10, width=0.25)
    network.to(memory_format=memory_format(network, cpu))
    layouts = []
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(
                lambda _layer, _inputs, output: layouts.append(output.is_contiguous(memory_format=torch.channels_last))
            )
    network(torch.randn(4, 128, 216).unsqueeze(1))
    assert len(layouts) == 36 and all(layouts)


def test_filters_that_do_not_come_in_eights_keep_the_plain_layout() -> None:
    cpu = torch.device("cpu")
    assert memory_format(small_network(10, width=0.1), cpu) is torch.contiguous_format
    assert memory_format(small_network(10, width=0.125), cpu) is torch.channels_last
