"""Metrics of a training in MLflow: every epoch once, also after an outage or a restart."""

import time
from collections.abc import Sequence
from dataclasses import asdict

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from audiocnn.training.state import Epoch
from mlops.tracking import Run, TrackingError

INTERVAL_SECONDS = 10.0  # between two requests; short epochs are logged together, so that the training does not wait
PAUSE_SECONDS = 600.0  # without attempts after a failed one, which takes about one minute if connections are refused
RETRY_SECONDS = 10.0
BACKFILL_SECONDS = 600.0
EPOCHS_PER_REQUEST = 100  # an epoch has five metrics, and MLflow takes 1,000 in a request


class MetricsLogger:
    """Logs the metrics of each epoch to an MLflow run.

    While MLflow does not answer, training continues; `backfill` logs the missing epochs at the end.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._logged = run.logged_steps("train_loss")
        self._completed_at: dict[int, float] = {}  # by epoch, in seconds since 1970
        self._pending: list[Epoch] = []
        self._next_request = 0.0  # time.monotonic()

    def log(self, epoch: Epoch) -> None:
        """Log an epoch that was just completed, and those that wait, unless the last request was a moment ago.

        After a failure, which is printed, all wait for a while.
        """
        self._completed_at[epoch.epoch] = time.time()
        if epoch.epoch not in self._logged:
            self._pending.append(epoch)
        if not self._pending or time.monotonic() < self._next_request:
            return
        try:
            self._send(self._pending)
            self._pending, pause = [], INTERVAL_SECONDS
        except TrackingError as error:
            print(f"[train] training continues, missing epochs are logged later: {error}", flush=True)
            pause = PAUSE_SECONDS
        self._next_request = time.monotonic() + pause

    def backfill(self, history: Sequence[Epoch], checkpoint: str = "") -> None:
        """Log all epochs that the run lacks. `checkpoint` is where the trained state is kept, for the error message."""
        retrying = Retrying(
            retry=retry_if_exception_type(TrackingError),
            stop=stop_after_delay(BACKFILL_SECONDS),
            wait=wait_fixed(RETRY_SECONDS),
            before_sleep=_print_first_failure,
            reraise=True,
        )
        try:
            retrying(self._send_missing, history)
        except TrackingError as error:
            kept = f"; the trained state is kept in {checkpoint}, start the same training again to log it"
            raise TrackingError(f"{error}{kept if checkpoint else ''}") from error

    def _send_missing(self, history: Sequence[Epoch]) -> None:
        # Ask MLflow: it may have recorded an epoch although its answer was lost.
        logged = self._run.logged_steps("train_loss")
        self._send([epoch for epoch in history if epoch.epoch not in logged])

    def _send(self, epochs: Sequence[Epoch]) -> None:
        for start in range(0, len(epochs), EPOCHS_PER_REQUEST):
            self._run.log_points([self._point(epoch) for epoch in epochs[start : start + EPOCHS_PER_REQUEST]])

    def _point(self, epoch: Epoch) -> tuple[dict[str, float], int, float]:
        values = {name: value for name, value in asdict(epoch).items() if name != "epoch" and value is not None}
        # All attempts have the same timestamp: MLflow stores identical points once.
        return values, epoch.epoch, self._completed_at.setdefault(epoch.epoch, time.time())


def _print_first_failure(state: RetryCallState) -> None:
    if state.attempt_number == 1 and state.outcome is not None:
        minutes = BACKFILL_SECONDS / 60
        print(f"[train] waiting up to {minutes:.0f} minutes for MLflow: {state.outcome.exception()}", flush=True)
