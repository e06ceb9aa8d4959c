"""Metrics that are sent while the work goes on: an MLflow that is slow, or away for a while, holds nothing up."""

import threading
import time
from collections import deque
from collections.abc import Mapping

from components.tracking_runs import Run, check_finite
from components.tracking_server import TrackingError

RETRY_SECONDS = 5.0


class LiveMetrics:
    """Sends a run's metrics from a thread, in order, and again for as long as MLflow does not take them."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._waiting: deque[tuple[Mapping[str, float], int, float]] = deque()
        self._changed = threading.Condition()
        self._failure: TrackingError | None = None
        self._closing = False
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
        """Wait until everything is sent.

        Args:
            patience: seconds after which an MLflow that still does not answer is given up.
        Raises:
            TrackingError: it was given up.
        """
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(patience)
        if self._thread.is_alive() and self._failure:
            raise self._failure

    def abandon(self) -> None:
        """Send what can be sent at once, and no more."""
        with self._changed:
            self._closing = True
            if self._failure:
                self._waiting.clear()
            self._changed.notify()

    def _send(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if not self._waiting:
                    return
                values, step, at = self._waiting[0]
            try:
                self._run.metrics(values, step, at)
            except TrackingError as error:
                if self._failure is None:
                    print(f"[tracking] going on without, and trying again: {error}", flush=True)
                self._failure = error
                time.sleep(RETRY_SECONDS)
                continue
            if self._failure:
                print("[tracking] MLflow answers again", flush=True)
            with self._changed:
                self._failure = None
                if self._waiting:
                    self._waiting.popleft()
