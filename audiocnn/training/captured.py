"""Steps on a GPU as a CUDA graph: captured once, then replayed without Python and without launching single kernels."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from audiocnn.data.batches import Batches, ResidentBatches
from audiocnn.training.distributed import ProcessGroup
from audiocnn.training.step import TrainingStep

WARM_UP_STEPS = 3  # libraries allocate their workspaces and AdamW its moments, which a capture must not do
RunSteps = Callable[[Sequence[TrainingStep]], None]


def run_directly(steps: Sequence[TrainingStep]) -> None:
    """Run a step of each training with a full batch, one after another."""
    for step in steps:
        step.run()


def capture_obstacle(train: Batches, group: ProcessGroup) -> str:
    """Return why a training's steps cannot be captured, or an empty string."""
    if train.device.type != "cuda":
        return "CUDA graphs need an NVIDIA GPU"
    if group.size > 1:
        return f"{group.size} processes train together"
    if not isinstance(train, ResidentBatches):
        return "the spectrograms are streamed from disk; increase train.resident_mb to keep them on the GPU"
    return ""


class CapturedSteps:
    """Runs the steps of one or several trainings on a GPU side by side, each on a stream of its own.

    The first WARM_UP_STEPS run uncaptured; they count. All further steps are replays of one CUDA graph. When a training
    has ended and others continue, their steps are captured anew.

    Args:
        device: the GPU of all trainings.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._completed = 0
        self._captured: Sequence[TrainingStep] = ()
        self._replay: Callable[[], None] | None = None
        self._gradients: dict[TrainingStep, list[Tensor | None]] = {}
        self._streams: dict[TrainingStep, torch.cuda.Stream] = {}

    def __call__(self, steps: Sequence[TrainingStep]) -> None:
        """Run a step of each training with a full batch."""
        if self._completed < WARM_UP_STEPS:
            self.run_side_by_side({step: step.run for step in steps})
        else:
            if self._replay is None or self._captured != steps:
                self._replay = None  # frees the memory of the previous graph
                self._replay, self._captured = self.capture({step: _captured_part(step) for step in steps}), steps
                self._gradients = {step: step.gradients for step in steps}
            self._replay()
            self._update_outside([step for step in steps if not step.beta1_is_constant])
        self._completed += 1

    def _update_outside(self, steps: Sequence[TrainingStep]) -> None:
        """Run the updates that the graph does not contain."""
        for step in steps:
            # A replay writes to the tensors of the capture; a partial batch since then has left others.
            step.gradients = self._gradients[step]
        self.run_side_by_side({step: step.update for step in steps})

    def run_side_by_side(self, functions: dict[TrainingStep, Callable[[], None]]) -> None:
        """Run functions on the streams of their trainings; later work on the current stream waits for all of them."""
        current = torch.cuda.current_stream(self._device)
        for step, function in functions.items():
            if step not in self._streams:
                self._streams[step] = torch.cuda.Stream(self._device)
            self._streams[step].wait_stream(current)
            with torch.cuda.stream(self._streams[step]):
                function()
        for step in functions:
            current.wait_stream(self._streams[step])

    def capture(self, functions: dict[TrainingStep, Callable[[], None]]) -> Callable[[], None]:
        """Return a function that replays the work of `functions` on the GPU; the capture does not do this work."""
        graph = torch.cuda.CUDAGraph()
        for step in functions:
            graph.register_generator_state(step.dropout.generator)
        with torch.cuda.device(self._device), torch.cuda.graph(graph, stream=torch.cuda.Stream(self._device)):
            self.run_side_by_side(functions)
        return graph.replay


def _captured_part(step: TrainingStep) -> Callable[[], None]:
    """Return what a graph can contain: a beta1 that changes is a constant there, so the update stays outside."""
    return step.run if step.beta1_is_constant else step.compute_gradients
