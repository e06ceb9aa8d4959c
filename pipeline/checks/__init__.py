"""What `audiocnn doctor` checks: this machine, and the services that the settings and the environment name."""

import threading
import time
from collections.abc import Callable

from audiocnn.errors import AudioCNNError
from pipeline.checks import machine, services
from pipeline.checks.result import Check, failure
from pipeline.settings import PipelineSettings

TIMEOUT = 15.0  # s for all checks together, which run side by side; importing MLflow takes seconds on a busy machine
CHECKS: dict[str, Callable[[PipelineSettings], list[Check]]] = {
    "MLflow": services.check_mlflow,
    "Storage": services.check_storage,
    "TorchServe": services.check_torchserve,
    "Gateway": services.check_gateway,
    "Java": machine.check_java,
    "PyTorch": machine.check_pytorch,
    "Disk": machine.check_disk,
    "Proxy": machine.check_proxy,
    "ffmpeg": machine.check_ffmpeg,
    "Programs": machine.check_programs,
}


def run_checks(settings: PipelineSettings) -> list[Check]:
    """Return the results of all checks, in the order of CHECKS. One that does not end in time is a failure."""
    results: dict[str, list[Check]] = {}

    def run(name: str) -> None:
        try:
            results[name] = CHECKS[name](settings)
        except (AudioCNNError, OSError) as error:
            results[name] = [failure(name, str(error))]

    # Daemons: a check that waits for a server must not delay the end of the program.
    threads = {name: threading.Thread(target=run, args=(name,), daemon=True) for name in CHECKS}
    deadline = time.monotonic() + TIMEOUT
    for thread in threads.values():
        thread.start()
    for thread in threads.values():
        thread.join(max(0.0, deadline - time.monotonic()))
    late = f"no answer within {TIMEOUT:g} s"
    return [
        check
        for name in CHECKS
        for check in results.get(name)
        or [failure(name, late, "check the network, or try again when this machine is less busy")]
    ]
