"""find_events(): properties for any probabilities, and known recordings."""

import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from audiocnn.events import Event, EventSettings, find_events

CLASSES = ("dog", "rain", "siren")
SECONDS = 5.0
PLAIN = EventSettings(threshold=0.5, release=1.0)

probabilities = st.integers(0, 12).flatmap(
    lambda windows: arrays(np.float32, (windows, len(CLASSES)), elements=st.floats(0, 1, width=32))
)
event_settings = st.builds(EventSettings, st.floats(0.01, 1), st.floats(0.1, 1))


def starts_of(windows: int, last: float = 1.0) -> list[float]:
    """Return starts every half window; the last one is `last` hops after the one before."""
    return [2.5 * (index if index + 1 < windows or not index else index - 1 + last) for index in range(windows)]


@given(probabilities, st.floats(0.1, 1), event_settings, st.data())
def test_events_are_sorted_disjoint_and_within_the_recording(
    values: np.ndarray, last: float, settings: EventSettings, data: st.DataObject
) -> None:
    silent = data.draw(arrays(bool, len(values)))
    values[silent] = np.nan
    starts = starts_of(len(values), last)
    end = starts[-1] + SECONDS if starts else 0.0
    seconds = data.draw(st.floats(0.5, 1)) * SECONDS if len(values) == 1 else end
    events = find_events(values, starts, SECONDS, CLASSES, settings, seconds)
    assert events == sorted(events, key=lambda event: (event.start, event.label))
    for event in events:
        assert 0 <= event.start < event.end <= seconds
        assert settings.threshold <= event.confidence <= 1
        covered = [
            not silent[index]
            for index, start in enumerate(starts)
            if start < event.end and event.start < start + SECONDS
        ]
        assert any(covered)
    for name in CLASSES:
        own = [event for event in events if event.label == name]
        assert all(before.end < after.start for before, after in pairwise(own))


def seconds_of(events: list[Event], label: str) -> list[tuple[float, float]]:
    return [(event.start, event.end) for event in events if event.label == label]


@given(probabilities, st.floats(0.01, 1), st.floats(0.01, 1), st.floats(0.1, 1))
def test_a_higher_threshold_finds_nothing_new(values: np.ndarray, one: float, other: float, release: float) -> None:
    starts = starts_of(len(values))
    low, high = (
        find_events(values, starts, SECONDS, CLASSES, EventSettings(threshold, release))
        for threshold in sorted((one, other))
    )
    for event in high:
        assert any(start <= event.start and event.end <= end for start, end in seconds_of(low, event.label))


@given(probabilities, event_settings)
def test_events_of_windows_without_overlap_are_found_again_in_themselves(
    values: np.ndarray, settings: EventSettings
) -> None:
    starts = [SECONDS * index for index in range(len(values))]
    events = find_events(values, starts, SECONDS, CLASSES, settings)
    again = np.zeros_like(values, np.float64)
    for event in events:
        for index, start in enumerate(starts):
            if event.start <= start < event.end:
                again[index, CLASSES.index(event.label)] = event.confidence
    assert find_events(again, starts, SECONDS, CLASSES, settings) == events


@given(probabilities)
def test_an_event_of_one_window_is_that_window(values: np.ndarray) -> None:
    if len(values):
        events = find_events(values[:1], [0.0], SECONDS, CLASSES, PLAIN)
        expected = {name: float(value) for name, value in zip(CLASSES, values[0], strict=True) if value >= 0.5}
        assert {event.label: event.confidence for event in events} == pytest.approx(expected)
        assert all((event.start, event.end) == (0.0, SECONDS) for event in events)


def test_no_windows_have_no_events() -> None:
    assert find_events(np.empty((0, 3)), [], SECONDS, CLASSES) == []
    assert find_events(np.full((4, 3), np.nan), starts_of(4), SECONDS, CLASSES) == []


def test_hysteresis_keeps_an_event_that_becomes_weaker() -> None:
    level = [0.1, 0.9, 0.4, 0.4, 0.1, 0.4, 0.1]
    values = np.array([[value, 0, 0] for value in level])
    starts = [SECONDS * index for index in range(len(level))]
    (event,) = find_events(values, starts, SECONDS, CLASSES, EventSettings(0.6, 0.5))
    assert event == Event(5.0, 20.0, "dog", 0.9)
    (short,) = find_events(values, starts, SECONDS, CLASSES, EventSettings(0.6, 1.0))
    assert (short.start, short.end) == (5.0, 10.0)


def test_overlapping_windows_are_averaged() -> None:
    values = np.array([[0.0, 0, 0], [0.8, 0, 0], [0.8, 0, 0], [0.0, 0, 0]])
    (event,) = find_events(values, starts_of(4), SECONDS, CLASSES, EventSettings(0.6, 0.5))
    assert event == Event(2.5, 10.0, "dog", pytest.approx(0.8))
    assert event.to_dict() == {"start": 2.5, "end": 10.0, "class": "dog", "confidence": pytest.approx(0.8)}


def test_rounded_starts_leave_no_segment_of_a_single_window() -> None:
    values = np.zeros((1000, 3))
    values[1:-1:2] = [0.5, 0, 0]  # 0.25 on average, below the threshold
    assert find_events(values, [index * 0.48 for index in range(1000)], 0.96, CLASSES, EventSettings(0.3, 1.0)) == []


def test_the_events_of_six_hours_need_little_memory() -> None:
    values = np.zeros((8640, 3))
    values[100:200] = [0.9, 0, 0]
    tracemalloc.start()
    (event,) = find_events(values, starts_of(len(values)), SECONDS, CLASSES, PLAIN)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (event.start, event.end) == (252.5, 500.0) and peak < 20e6
