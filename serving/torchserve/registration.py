"""Register the version of an index in one TorchServe: the same for a deploy and for a container that starts."""

import time

from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_fixed

from serving.torchserve.client import ServingError, TorchServeClient
from serving.torchserve.model_store import Index

COPY_TIMEOUT = 120.0  # s for a container to copy the archive from the model store
NOT_FOUND = 404
TAKEN_FOR_A_FOLDER = '"fileList" is null'  # org.pytorch.serve.archive.model.ModelArchive of TorchServe 0.12.0


def ensure_registered(client: TorchServeClient, index: Index, *, wait: bool = True) -> None:
    """Register a version, or complete what an interrupted deploy left, until its workers are ready.

    Args:
        wait: for the workers of a version that was not registered.
    Raises:
        ServingError: TorchServe does not respond, lacks the archive, or its workers cannot load it.
    """
    version = index.served_version
    served = next((item for item in client.list_versions(index.name) if item.version == version), None)
    where = f"{client.management}: {index.name} {version}"
    if served is None:
        _print(f"{where}: registering with {index.workers} worker(s)")
        began = time.monotonic()
        retrying = Retrying(
            retry=retry_if_exception(_lacks_archive),
            stop=stop_after_delay(COPY_TIMEOUT),
            wait=wait_fixed(1),
            reraise=True,
        )
        retrying(client.register, index, wait)
        if wait:
            _print(f"{where}: ready after {time.monotonic() - began:.1f} s")
    elif served.ready_workers == index.workers:
        _print(f"{where}: already registered")
    else:
        _print(f"{where}: {served.ready_workers} of {index.workers} workers ready: scaling")
        client.scale_workers(index.name, version, index.workers)


def _lacks_archive(error: BaseException) -> bool:
    """Return whether a container has not copied the archive from the model store yet.

    If the copy appears while TorchServe looks for it, TorchServe takes it for a folder and answers 500.
    """
    return isinstance(error, ServingError) and (error.status == NOT_FOUND or TAKEN_FOR_A_FOLDER in str(error))


def _print(message: str) -> None:
    print(f"[deploy] {message}", flush=True)
