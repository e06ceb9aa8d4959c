"""The number of trainings that fit into a GPU's memory at the same time."""

from collections.abc import Callable

import torch

from audiocnn.training.captured import capture_obstacle
from audiocnn.training.distributed import SINGLE_PROCESS
from audiocnn.training.loop import Training, prepare

USED_SHARE = 0.8  # of the free memory; the rest is for evaluations and for parts that the allocator cannot use


def trainings_that_fit(make_training: Callable[[], Training], device: torch.device) -> int:
    """Return how many trainings like this one can run side by side: 1 where there is no CUDA graph.

    The need of one is measured with a step of a training that `make_training` returns and that is then discarded.
    """
    if device.type != "cuda":
        return 1
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(device)
    before = torch.cuda.memory_reserved(device)
    torch.cuda.reset_peak_memory_stats(device)
    if not _run_one_step(make_training()):
        return 1
    torch.cuda.synchronize(device)
    needed = torch.cuda.max_memory_reserved(device) - before
    torch.cuda.empty_cache()
    return max(1, int(USED_SHARE * free / needed))


def _run_one_step(training: Training) -> bool:
    """Learn from one batch, if the steps of this training can be captured; return whether they can."""
    train = training.train
    if capture_obstacle(train, SINGLE_PROCESS):
        return False
    _, step = prepare(training, SINGLE_PROCESS)
    step.start_epoch()
    step.prepare()
    step.run(min(train.clips, train.batch_size))
    return True
