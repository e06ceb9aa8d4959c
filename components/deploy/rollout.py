"""Make every replica of TorchServe serve a version: register, test, switch, retire."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_fixed

from audiocnn.errors import AudioCNNError
from components.deploy.smoke_test import SmokeTest
from serving.torchserve.archive import archive_backend
from serving.torchserve.client import ServedVersion, ServingError, TorchServeClient, from_served_version
from serving.torchserve.model_store import INDEX, Index, ModelStore
from serving.torchserve.registration import ensure_registered

DRAIN_TIMEOUT = 60.0  # s for a full queue to accept one more request
GRACE_PERIOD = 1.0  # s for responses in progress when a version is no longer the default


class Rollout:
    """A version on its way to all replicas: `prepare` it beside the one that is served, `switch`, `retire_others`.

    Args:
        wanted: the index to write.
        replicas: clients of all TorchServes.

    Attributes:
        previous: number of the version that the first replica served before; None if there was none, or the same.
        smoke: after `prepare`, the result of the smoke test with the largest difference.
        backend: after `prepare`, the runtime of the network.
    """

    def __init__(
        self, wanted: Index, store: ModelStore, replicas: Sequence[TorchServeClient], smoke_test: SmokeTest
    ) -> None:
        self._wanted, self._store, self._replicas, self._smoke_test = wanted, store, replicas, smoke_test
        self._current = store.index()
        self._served = [client.default_version(wanted.name) for client in replicas]
        before = from_served_version(self._served[0]) if self._served[0] else None
        self.previous = before if before != wanted.version else None
        self.smoke: dict[str, Any] = {}
        self.backend = ""

    def prepare(self, archive: Path) -> None:
        """Register the version and run the smoke test on every replica; if one fails, all unregister it.

        Raises:
            ServingError: a replica does not respond, or refuses the version.
            SmokeTestError: a replica gives another answer than the model.
        """
        wanted, current = self._wanted, self._current
        self.backend = str(archive_backend(archive))
        if current is None or current.sha256 != wanted.sha256 or not self._store.contains(wanted.archive):
            self._store.put(archive)
        try:
            for client in self._replicas:
                with stage("register on TorchServe"):
                    ensure_registered(client, wanted)
            with stage("smoke test"):
                results = [self._smoke_test.run(client, wanted) for client in self._replicas]
        except AudioCNNError:
            self.discard()
            raise
        self.smoke = max(results, key=lambda result: float(result["max_difference"]))

    def switch(self) -> None:
        """Let the index name the version, so that a replica that starts serves it, and make it every replica's default.

        After an error, a repeated deploy completes what is left.
        """
        with stage("switch"):
            if self._current is None or not self._current.is_same_release(self._wanted):
                self._store.write_index(self._wanted)
            _switch(self._wanted, self._replicas)

    def retire_others(self) -> None:
        """Unregister the other versions, and delete their archives."""
        for client in self._replicas:
            _retire_others(client, self._wanted, self._smoke_test.content)
        self._store.delete_other_archives(self._wanted)

    def undo_switch(self) -> None:
        """Let the index and all replicas that respond serve the previous version again."""
        if self._current is None:
            self._store.delete(INDEX)
        else:
            self._store.write_index(self._current)
        for client, before in zip(self._replicas, self._served, strict=True):
            if before:
                with suppress(ServingError):  # the one that failed, perhaps
                    client.set_default(self._wanted.name, before)
        self.discard()

    def discard(self) -> None:
        """Unregister the version where it is not what was served before, and delete its archive."""
        wanted, new = self._wanted, self._wanted.served_version
        for client, before in zip(self._replicas, self._served, strict=True):
            if before != new:
                with suppress(ServingError):
                    client.unregister(wanted.name, new)
                    kept = f"; {before} is served as before" if before else ""
                    _print(client, wanted, f"{new} is unregistered{kept}")
        if self._current is None or self._current.archive != wanted.archive:
            self._store.delete(wanted.archive)


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Add the name of a stage of the deployment as a note to its errors."""
    try:
        yield
    except AudioCNNError as error:
        error.add_note(name)
        raise


def _switch(wanted: Index, replicas: Sequence[TorchServeClient]) -> None:
    """Make the version the default of every replica, of the others too if one of them does not respond."""
    new, errors = wanted.served_version, []
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
        if served.version != wanted.served_version:
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
