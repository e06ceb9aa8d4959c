"""Steps in a CUDA graph. Without a GPU, the graph is a fake one, and the rest is what runs on a GPU."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from helpers.fits import CPU, same, training
from helpers.networks import replace_settings
from helpers.project import ROOT
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import Node

from audiocnn.config import TrainSettings
from audiocnn.data.batches import Batches, ResidentBatches, StreamedBatches, batches
from audiocnn.model import AudioCNN
from audiocnn.training import loop
from audiocnn.training.captured import WARM_UP_STEPS, CapturedSteps, capture_obstacle
from audiocnn.training.distributed import SINGLE_PROCESS, ProcessGroup
from audiocnn.training.forward import forward
from audiocnn.training.loop import Training, TrainingError, fit_many
from audiocnn.training.schedule import one_cycle
from audiocnn.training.state import TrainingState
from audiocnn.training.step import TrainingStep
from pipeline import settings as pipeline_settings
from pipeline.settings import PipelineSettings


class FakeGraph(CapturedSteps):
    """A replay runs the captured functions and, like a CUDA graph, writes gradients to the tensors of the capture."""

    def __init__(self) -> None:
        super().__init__(CPU)
        self.captured_sizes: list[int] = []
        self.replays = 0

    def run_side_by_side(self, functions: dict[TrainingStep, Callable[[], None]]) -> None:
        for function in functions.values():
            function()

    def capture(self, functions: dict[TrainingStep, Callable[[], None]]) -> Callable[[], None]:
        self.captured_sizes.append(len(functions))
        kept = {}
        for step in functions:
            step.gradients = kept[step] = [torch.zeros_like(weight) for weight in step.gradients]

        def replay() -> None:
            self.replays += 1
            for step, function in functions.items():
                before = step.gradients
                function()
                for tensor, computed in zip(kept[step], step.gradients, strict=True):
                    tensor.copy_(computed)
                step.gradients = before

        return replay


@pytest.fixture
def graph(monkeypatch: pytest.MonkeyPatch) -> FakeGraph:
    """Train on the CPU as on a GPU."""
    fake = FakeGraph()
    monkeypatch.setattr(loop, "capture_obstacle", lambda train, _: "" if isinstance(train, ResidentBatches) else "no")
    monkeypatch.setattr(loop, "CapturedSteps", lambda device: fake)
    return fake


@pytest.fixture
def settings(tiny: PipelineSettings) -> TrainSettings:
    return replace_settings(tiny.train, epochs=2, batch_size=6, dropout=0.5)  # 40 clips: 6 full batches and one of 4


def fitted(folder: Path, settings: TrainSettings) -> Training:
    """Return a training that ran on its own, without a graph."""
    expected = training(folder, settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "capture_obstacle", capture_obstacle)
        fit_many([expected])
    return expected


@pytest.mark.parametrize("changes", [{}, {"cycle_momentum": False, "ema_horizon": 0.3}], ids=["beta1 changes", "ema"])
def test_replayed_steps_learn_what_direct_steps_learn(
    spectrogram_folder: Path, settings: TrainSettings, graph: FakeGraph, changes: dict
) -> None:
    settings = replace_settings(settings, **changes)
    found = training(spectrogram_folder, settings)
    fit_many([found])
    assert graph.captured_sizes == [1] and graph.replays == 2 * 6 - WARM_UP_STEPS
    assert same(found, fitted(spectrogram_folder, settings))


def test_trainings_side_by_side_learn_what_single_ones_learn(
    spectrogram_folder: Path, settings: TrainSettings, graph: FakeGraph
) -> None:
    different = [settings, replace_settings(settings, seed=1, fold=1, epochs=1), replace_settings(settings, fold=3)]
    found = [training(spectrogram_folder, each) for each in different]
    fit_many(found)
    assert graph.captured_sizes == [3, 2]  # again after the shorter one
    assert all(same(one, fitted(spectrogram_folder, each)) for one, each in zip(found, different, strict=True))


def test_what_cannot_be_captured_is_trained_beside(
    spectrogram_folder: Path, settings: TrainSettings, graph: FakeGraph
) -> None:
    found = [training(spectrogram_folder, settings, resident_mb) for resident_mb in (0, 1e6)]
    fit_many(found)
    assert graph.captured_sizes == [1] and same(*found)


def test_nan_is_found_at_the_end_of_the_epoch(
    spectrogram_folder: Path, settings: TrainSettings, graph: FakeGraph
) -> None:
    broken = training(spectrogram_folder, settings)
    broken.train._spectrograms[0] = float("nan")  # type: ignore[attr-defined]
    with pytest.raises(TrainingError, match="training loss became nan in epoch 1"):
        fit_many([broken])
    assert graph.replays == 6 - WARM_UP_STEPS


def test_no_autograd_graph_outlives_its_step(
    spectrogram_folder: Path, settings: TrainSettings, graph: FakeGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A weight's node of a step before the capture would belong to another stream, and the capture would fail."""
    found = training(spectrogram_folder, settings)

    def node_of_a_weight() -> Node:
        weight = found.network.stem[0].weight
        return weight.expand_as(weight).grad_fn.next_functions[0][0]

    def mark(*arguments: Any) -> torch.Tensor:
        assert not node_of_a_weight().metadata
        logits = forward(*arguments)
        node_of_a_weight().metadata["used"] = True
        assert node_of_a_weight().metadata
        return logits

    monkeypatch.setattr("audiocnn.training.step.forward", mark)
    fit_many([found])
    assert len(found.history) == 2 and not node_of_a_weight().metadata


@pytest.mark.parametrize(
    ("kind", "device", "processes", "reason"),
    [
        (ResidentBatches, "cpu", 1, "CUDA graphs need an NVIDIA GPU"),
        (ResidentBatches, "cuda", 2, "2 processes train together"),
        (StreamedBatches, "cuda", 1, "streamed from disk; increase train.resident_mb"),
        (ResidentBatches, "cuda", 1, None),
    ],
)
def test_obstacles_are_named(kind: type[Batches], device: str, processes: int, reason: str | None) -> None:
    train = kind.__new__(kind)
    train.device = torch.device(device)
    found = capture_obstacle(train, ProcessGroup(0, processes))
    assert reason in found if reason else found == ""


class NoNumbers:
    """Replaces DropoutNumbers, since a generator of a GPU needs one."""

    in_use = staticmethod(nullcontext)

    def __init__(self, device: torch.device) -> None: ...


@pytest.mark.parametrize("recipe", ["seed", "strong"])
@pytest.mark.filterwarnings("ignore:CUDA is not available")
def test_a_step_reads_nothing_back_from_the_gpu(recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fake GPU has shapes and no values: what a graph cannot capture, such as .item(), raises an exception.

    The backward pass and AdamW, which are PyTorch's own, need a real GPU and are left out.
    """
    blocks = pipeline_settings.load(ROOT / "params.yaml", {"recipe": recipe})
    settings, front_end = replace_settings(blocks.train, width=0.0625, batch_size=4), blocks.spectrograms
    schedule, rows, gpu = one_cycle(settings, 10), np.arange(8), torch.device("cuda")
    array = np.zeros((8, front_end.n_mels, front_end.frames), np.float16)
    data = SimpleNamespace(spectrograms=array, labels=rows % 2)
    monkeypatch.setattr("audiocnn.training.step.DropoutNumbers", NoNumbers)
    monkeypatch.setattr(torch.Tensor, "backward", lambda loss: None)
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda optimizer: None)
    with FakeTensorMode():
        with gpu:
            network = AudioCNN(2, front_end.n_mels, settings.architecture)
        optimizer = torch.optim.AdamW(network.parameters())
        optimizer.param_groups[0]["lr"] = torch.zeros((), device=gpu)
        state = TrainingState(network, optimizer)
        train = batches(data, rows, 4, gpu)  # type: ignore[arg-type]
        TrainingStep(state, network, train, settings, schedule, SINGLE_PROCESS).run()
        assert state.sums.device.type == "cuda"
        with pytest.raises(Exception, match="_local_scalar_dense"):  # this test can fail
            state.sums.sum().item()
