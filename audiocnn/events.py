"""Sound event detection: where in a recording a class is active, from the probabilities of its windows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating]
RESOLUTION = 1e-3  # s, of the times in an answer


@dataclass(frozen=True)
class EventSettings:
    """When a class counts as detected. The defaults are the best of those that `benchmarks.recordings` compares.

    Attributes:
        threshold: probability that an event reaches at least once, 0 to 1.
        release: share of `threshold` below which an event ends, 0 to 1: the hysteresis. 1 is a single threshold.
    """

    threshold: float = 0.3
    release: float = 0.5


@dataclass(frozen=True)
class Event:
    """A class that is detected from `start` to `end`, in s; `confidence` is its highest probability in between."""

    start: float
    end: float
    label: str
    confidence: float

    def to_dict(self) -> dict[str, float | str]:
        """Return the JSON object of an answer."""
        return {
            "start": round(self.start, 3),
            "end": round(self.end, 3),
            "class": self.label,
            "confidence": self.confidence,
        }


def find_events(
    probabilities: FloatArray,
    starts: Sequence[float],
    window_seconds: float,
    classes: Sequence[str],
    settings: EventSettings = EventSettings(),  # noqa: B008  it is frozen
    seconds: float = np.inf,
) -> list[Event]:
    """Find the events of a recording, sorted by start, then by class.

    Windows overlap. Between two neighboring beginnings or ends of windows, the probability of a class is the mean over
    the windows there (the smoothing). An event is the longest interval without a gap in which it is at least
    `threshold * release`, if it reaches `threshold` in there.

    Args:
        probabilities: of shape (windows, classes); a row of NaN is a silent window, in which nothing is detected.
        starts: beginnings of the windows in s, ascending.
        window_seconds: length of a window.
        classes: names of the columns.
        settings: the thresholds.
        seconds: length of the recording, at which the last event ends at the latest.
    """
    if not len(starts):
        return []
    edges, levels = _smooth(np.nan_to_num(np.asarray(probabilities, np.float64)), starts, window_seconds, seconds)
    events = [
        Event(float(edges[first]), float(edges[last]), label, float(level[first:last].max()))
        for label, level in zip(classes, levels.T, strict=True)
        for first, last in _runs(level, settings)
    ]
    return sorted(events, key=lambda event: (event.start, event.label))


def _smooth(
    probabilities: npt.NDArray[np.float64], starts: Sequence[float], window_seconds: float, seconds: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the edges of the segments, of shape (segments + 1,), and their levels, of shape (segments, classes)."""
    begins = np.minimum(np.asarray(starts, np.float64), seconds)
    ends = np.minimum(begins + window_seconds, seconds)
    edges = np.unique(np.concatenate([begins, ends]))
    # A window ends where another one begins, up to rounding: there is no segment between two such edges.
    edges = edges[np.diff(edges, prepend=-np.inf) > RESOLUTION]
    middles = (edges[:-1] + edges[1:]) / 2
    levels = np.zeros((len(middles), probabilities.shape[1]))
    first, last = np.searchsorted(ends, middles), np.searchsorted(begins, middles)
    for segment in np.flatnonzero(first < last):  # one by one: a day has billions of pairs of a segment and a window
        levels[segment] = probabilities[first[segment] : last[segment]].mean(axis=0)
    return edges, levels


def _runs(level: npt.NDArray[np.float64], settings: EventSettings) -> Iterator[tuple[int, int]]:
    """Yield the first segment, and the one after the last, of every run that is an event."""
    active = np.concatenate([[False], level >= settings.threshold * settings.release, [False]])
    changes = np.flatnonzero(active[1:] != active[:-1])
    for first, last in zip(changes[::2].tolist(), changes[1::2].tolist(), strict=True):
        if level[first:last].max() >= settings.threshold:
            yield first, last
