"""The answer about a recording: pooling, silence, unknown, and merging of chunks."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from audiocnn.errors import Silent
from audiocnn.recordings import Analysis, AnswerOptions, build_answer, covered_seconds, pool, read_windows
from audiocnn.windows import Grid

GRID = Grid(8000, 5.0)
CLASSES = ("dog", "rain", "siren")
SILENT = [np.nan] * 3


def analysis(*rows: list[float], start: float = 0.0) -> Analysis:
    return Analysis(tuple(start + 2.5 * index for index in range(len(rows))), np.array(rows, np.float32))


def test_silent_windows_do_not_count() -> None:
    part = analysis([0.8, 0.1, 0.1], SILENT, [0.4, 0.5, 0.1], SILENT, SILENT, SILENT)
    answer = build_answer(part, 17.5, GRID, CLASSES)
    assert answer["predictions"][0] == {"class": "dog", "probability": pytest.approx(0.6)}
    assert sum(item["probability"] for item in answer["predictions"]) == pytest.approx(1)
    assert (answer["label"], answer["calibrated"]) == ("dog", False)
    assert (answer["analyzed_seconds"], answer["silent_seconds"]) == (10.0, 7.5)
    assert "events" not in answer and "windows" not in answer


def test_a_silent_recording_has_no_answer() -> None:
    with pytest.raises(Silent):
        build_answer(Analysis.silence((0.0, 2.5), 3), 7.5, GRID, CLASSES)


def test_a_label_needs_the_threshold_of_its_class() -> None:
    part = analysis([0.6, 0.3, 0.1])
    for threshold, label in ((0.59, "dog"), (0.61, "unknown")):
        answer = build_answer(part, 5.0, GRID, CLASSES, thresholds={"dog": threshold, "rain": 0.0, "siren": 0.0})
        assert (answer["label"], answer["calibrated"], answer["predictions"][0]["class"]) == (label, True, "dog")


def test_one_window_keeps_its_probabilities() -> None:
    row = np.array([[0.1, 0.7, 0.2]], np.float32)
    np.testing.assert_array_equal(pool(row), row[0])


def test_an_answer_to_a_chunk_is_read_back_from_json() -> None:
    part = analysis([0.1, 0.7, 0.2], SILENT)
    answer = json.loads(
        json.dumps(build_answer(part, 7.5, GRID, CLASSES, AnswerOptions(windows=True)), allow_nan=False)
    )
    again = read_windows(answer, start=30.0)
    assert again.starts == (30.0, 32.5) and again.silent.tolist() == [False, True]
    np.testing.assert_array_equal(again.probabilities, part.probabilities)


@given(arrays(np.float32, st.tuples(st.integers(1, 12), st.just(3)), elements=st.floats(0, 1, width=32)), st.data())
def test_chunks_have_the_answer_of_the_whole(rows: np.ndarray, data: st.DataObject) -> None:
    whole = analysis(*rows.tolist())
    cut = data.draw(st.integers(1, len(rows)))
    parts = [Analysis(whole.starts[:cut], whole.probabilities[:cut])]
    if cut < len(rows):
        parts.append(Analysis(whole.starts[cut:], whole.probabilities[cut:]))
    options = AnswerOptions(top_k=3, events=True)
    seconds = whole.starts[-1] + 5.0
    assert build_answer(Analysis.merge(parts), seconds, GRID, CLASSES, options) == build_answer(
        whole, seconds, GRID, CLASSES, options
    )


@pytest.mark.parametrize(
    ("starts", "seconds", "expected"),
    [((), 3.0, 0.0), ((0.0,), 3.0, 3.0), ((0.0, 2.5, 5.0, 6.0), 11.0, 11.0), ((0.0, 10.0), 20.0, 10.0)],
)
def test_covered_seconds_count_overlaps_once(starts: tuple[float, ...], seconds: float, expected: float) -> None:
    assert covered_seconds(starts, 5.0, seconds) == pytest.approx(expected)
