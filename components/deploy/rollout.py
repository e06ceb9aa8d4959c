"""Make every replica of TorchServe serve a version: register, test, switch, retire."""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_fixed

from components.deploy.smoke_test import SmokeTest, SmokeTestError
from serving.torchserve.client import (
    ServedVersion,
    ServingError,
    TorchServeClient,
    from_served_version,
    to_served_version,
)
from serving.torchserve.model_store import Index, ModelStore
from serving.torchserve.registration import ensure_registered

DRAIN_TIMEOUT = 60.0  # s for a full queue to accept one more request
GRACE_PERIOD = 1.0  # s for responses in progress when a version is no longer the default


@dataclass(frozen=True)
class Rollout:
    """The result of `roll_out`.

    Attributes:
        previous: number of the version that the first replica served before; None if there was none, or the same.
        smoke: the result of the smoke test with the largest difference.
    """

    previous: int | None
    smoke: dict[str, Any]


def roll_out(
    wanted: Index, archive: Path, store: ModelStore, replicas: Sequence[TorchServeClient], smoke_test: SmokeTest
) -> Rollout:
    """Make all replicas serve a version, and the index name it.

    The previous version answers until the new one has passed the smoke test on every replica; if it fails on one, all
    unregister it. Then the index names it, so that a replica that starts from now on serves it, and the others switch.

    Args:
        wanted: the index to write.
        archive: the archive that it names.
    Raises:
        ServingError: a replica does not respond, or refuses the version.
        SmokeTestError: a replica gives another answer than the model.
    """
    current = store.index()
    previous = [client.default_version(wanted.name) for client in replicas]
    if current is None or current.sha256 != wanted.sha256 or not store.contains(wanted.archive):
        store.put(archive)
    try:
        for client in replicas:
            ensure_registered(client, wanted)
        results = [smoke_test.run(client, wanted.name, wanted.version) for client in replicas]
    except (SmokeTestError, ServingError):
        _roll_back(wanted, current, store, replicas, previous)
        raise
    if current is None or not current.is_same_release(wanted):
        store.write_index(wanted)
    _switch(wanted, replicas)
    for client in replicas:
        _retire_others(client, wanted, smoke_test.content)
    store.delete_other_archives(wanted)
    before = from_served_version(previous[0]) if previous[0] else None
    return Rollout(
        before if before != wanted.version else None, max(results, key=lambda result: float(result["max_difference"]))
    )


def _roll_back(
    wanted: Index,
    current: Index | None,
    store: ModelStore,
    replicas: Sequence[TorchServeClient],
    previous: Sequence[str | None],
) -> None:
    """Unregister a version that failed, where it is not what was served before."""
    new = to_served_version(wanted.version)
    for client, before in zip(replicas, previous, strict=True):
        if before != new:
            with suppress(ServingError):  # the one that failed, perhaps
                client.unregister(wanted.name, new)
                _print(client, wanted, f"{new} is unregistered" + (f"; {before} is served as before" if before else ""))
    if current is None or current.archive != wanted.archive:
        store.delete(wanted.archive)


def _switch(wanted: Index, replicas: Sequence[TorchServeClient]) -> None:
    """Make the version the default of every replica, of the others too if one of them does not respond."""
    new, errors = to_served_version(wanted.version), []
    for client in replicas:
        try:
            if (before := client.default_version(wanted.name)) != new:
                client.set_default(wanted.name, new)
                _print(client, wanted, f"{new} is the default now; before: {before or 'no version'}")
        except ServingError as error:
            errors.append(error)
    if errors:
        raise errors[0]


def _retire_others(client: TorchServeClient, wanted: Index, clip: bytes) -> None:
    """Unregister all other versions once they have answered the requests in their queues."""
    for served in client.list_versions(wanted.name):
        if served.version != to_served_version(wanted.version):
            try:
                _drain(client, wanted.name, served, clip)
            except ServingError:
                _print(client, wanted, f"{served.version} no longer answers")
            time.sleep(GRACE_PERIOD)
            client.unregister(wanted.name, served.version)
            _print(client, wanted, f"{served.version} is unregistered")


def _drain(client: TorchServeClient, name: str, served: ServedVersion, clip: bytes) -> None:
    """Wait until a version has answered the requests in its queue; TorchServe drops them when it is unregistered.

    The queue is first in, first out: the answer to one more request comes after all earlier ones. A full queue refuses
    the request with 503.
    """
    retrying = Retrying(
        retry=retry_if_exception(lambda error: isinstance(error, ServingError) and error.status == 503),
        stop=stop_after_delay(DRAIN_TIMEOUT if served.ready_workers else 0),
        wait=wait_fixed(0.2),
        reraise=True,
    )
    retrying(client.predict, clip, name, served.version)


def _print(client: TorchServeClient, wanted: Index, message: str) -> None:
    print(f"[deploy] {client.management}: {wanted.name} {message}", flush=True)
