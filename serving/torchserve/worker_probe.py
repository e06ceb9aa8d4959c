"""Whether the workers of a TorchServe hang."""

from contextlib import suppress

import psutil

from serving.torchserve.client import ServingError, TorchServeClient
from serving.torchserve.tone import tone

BUSY = 0.1  # s of processor time; workers that use more while the tone waits for an answer do not hang
WORKER = "model_service_worker.py"  # of TorchServe; a process that collects metrics is no worker


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


def _worker_seconds(process: psutil.Process | None) -> float:
    """Return the processor time of the workers, in s."""
    total = 0.0
    with suppress(psutil.Error):
        for child in process.children() if process else ():
            if any(WORKER in argument for argument in child.cmdline()):
                times = child.cpu_times()
                total += times.user + times.system
    return total
