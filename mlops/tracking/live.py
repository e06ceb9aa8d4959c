"""Metrics that are sent while the work goes on: an MLflow that is slow, or away for a while, holds nothing up."""

import threading
import time
from collections import deque
from collections.abc import Mapping

from mlops.tracking.runs import Run, check_finite
from mlops.tracking.server import TrackingError

RETRY_SECONDS = 5.0
ABANDON_SECONDS = 5.0  # for the last request of what failed; a pod that is told to stop has thirty


class LiveMetrics:
    """Sends a run's metrics from a thread, in order, and again for as long as MLflow does not take them."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._waiting: deque[tuple[Mapping[str, float], int, float]] = deque()
        self._changed = threading.Condition()
        self._failure: Exception | None = None
        self._closing = False
        self._given_up = threading.Event()
        self._thread = threading.Thread(target=self._send, name="metrics", daemon=True)
        self._thread.start()

    def __call__(self, values: Mapping[str, float], step: int) -> None:
        """Record numbers at a step, soon, with the time of this call.

        One time for every try: MLflow keeps one of two points that are alike, so that an answer that got lost on its
        way makes none twice.

        Raises:
            TrackingError: a number is NaN or infinite: no try would send it.
        """
        check_finite(values, step)
        with self._changed:
            self._waiting.append((values, step, time.time()))
            self._changed.notify()

    def finish(self, patience: float) -> None:
        """Wait until everything is sent. After an error nothing more is: the next try of the training sends it.

        Args:
            patience: seconds after which an MLflow that still does not answer is given up.
        Raises:
            TrackingError: it was given up; one request may be under way still, for as long as MLflow takes.
            Exception: what else ended the sending, a bug.
        """
        self._close()
        self._thread.join(patience)
        self._give_up()
        if not self._waiting:
            return
        left = f"metrics of {len(self._waiting)} epoch{'s' * (len(self._waiting) != 1)}"
        raise self._failure or TrackingError(f"MLflow is slow: {left} were not taken in {patience:g} s")

    def abandon(self) -> None:
        """Send what can be sent within ABANDON_SECONDS, and nothing where MLflow is away."""
        self._close()
        if not self._failure:
            self._thread.join(ABANDON_SECONDS)
        self._give_up()

    def _give_up(self) -> None:
        """Begin no further request, and wait a while for the one that is under way."""
        self._given_up.set()
        self._thread.join(ABANDON_SECONDS)

    def _close(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify()

    def _send(self) -> None:
        """What the thread does: send until all is sent and nothing will come. What it dies of is kept for `finish`."""
        try:
            self._send_all()
        except Exception as error:  # noqa: BLE001  `finish` raises it
            self._failure = error
            print(f"[tracking] metrics are sent no more: {type(error).__name__}: {error}", flush=True)

    def _send_all(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if not self._waiting or self._given_up.is_set():
                    return
                values, step, at = self._waiting[0]
            try:
                self._run.metrics(values, step, at)
            except TrackingError as error:
                if self._failure is None:
                    print(f"[tracking] going on without, and trying again: {error}", flush=True)
                self._failure = error
                if self._given_up.wait(RETRY_SECONDS):
                    return
                continue
            if self._failure:
                print("[tracking] MLflow answers again", flush=True)
            with self._changed:
                self._failure = None
                self._waiting.popleft()
