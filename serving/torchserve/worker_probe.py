"""Whether the workers of a TorchServe hang."""

from contextlib import suppress

import psutil

from serving.torchserve.client import ServingError, TorchServeClient
from serving.torchserve.tone import tone

BUSY = 0.1  # s of processor time; workers that use more while the tone waits for an answer do not hang
WORKER = "model_service_worker.py"  # the program of TorchServe's workers


def classify_tone(client: TorchServeClient, name: str, process: psutil.Process | None) -> bool:
    """Let a model classify a tone; return False if the tone waits behind the requests of clients.

    Args:
        process: of the TorchServe; None if it does not run.
    Raises:
        ServingError: there is no answer, and the workers compute nothing.
    """
    before = _worker_seconds(process)
    try:
        client.predict(tone(), name)
    except ServingError:
        if _worker_seconds(process) - before < BUSY:
            raise
        return False
    return True


def workers(process: psutil.Process) -> list[psutil.Process]:
    """Return the workers of a TorchServe. A process that collects metrics is none."""
    return [child for child in process.children() if any(WORKER in argument for argument in child.cmdline())]


def _worker_seconds(process: psutil.Process | None) -> float:
    """Return the processor time of the workers, in s."""
    total = 0.0
    with suppress(psutil.Error):
        for worker in workers(process) if process else ():
            times = worker.cpu_times()
            total += times.user + times.system
    return total
