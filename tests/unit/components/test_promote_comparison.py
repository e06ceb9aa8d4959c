"""The page with challenger and champion side by side."""

import re

import numpy as np
import pandas as pd
import pytest
from helpers import trainings

from components.promote.comparison import MeasuredModel, render
from mlops.artifacts import DecisionRecord, Predictions

CLASSES = ("dog", "<b>rain</b>", "sea_waves")
CLIPS = pd.DataFrame(
    {
        "filename": [f"{row}.wav" for row in range(60)],
        "md5": [f"{row:032x}" for row in range(60)],
        "fold": 2,
        "category": [CLASSES[row % 3] for row in range(60)],
        "src_file": [str(row // 2) for row in range(60)],
    }
)
RECORD = DecisionRecord(
    outcome="promote",
    reasons=("it is <better>",),
    name="sounds",
    challenger=7,
    champion=4,
    comparison={},
    policy={},
    decided_at="2026-01-01",
)


def model(correct: list[bool], megabytes: float, latency_ms: float) -> MeasuredModel:
    return MeasuredModel(trainings.predict(CLIPS, correct, CLASSES, seed=0), megabytes, latency_ms)


def rows_of(page: str) -> dict[str, list[str]]:
    """Return the cells of every table row by the first one."""
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", page)]
    return {cells[0]: cells[1:] for cells in rows if cells}


@pytest.fixture(scope="module")
def page() -> str:
    challenger = [row % 3 != 0 or row < 30 for row in range(60)]  # misses half of the dogs
    champion = [row % 2 == 0 for row in range(60)]
    return render(RECORD, (model(challenger, 20.0, 9.0), model(champion, 85.2, 31.5)), 0.9)


def test_all_measures_stand_beside_each_other(page: str) -> None:
    rows = rows_of(page)
    assert rows["accuracy"][::2] == ["83.3 %", "50.0 %", "+33.3"]
    assert rows["lowest recall of a class"] == ["50.0 %", "", "50.0 %", "", "+0.0", ""]
    assert rows["size of the weights (MB)"][::2] == ["20.0", "85.2", "-65.2"]
    assert rows["sound file to probabilities, one CPU thread (ms)"][::2] == ["9.0", "31.5", "-22.5"]
    for label in ("balanced accuracy", "top-3 accuracy", "macro F1", "log loss (nats)", "Brier score"):
        assert all(rows[label]), "every value has an interval"
    assert all(rows["expected calibration error"][::2])
    assert "On 60 clips of 30 recordings" in page and "Intervals are 90 %" in page


def test_only_differences_beyond_chance_are_bold(page: str) -> None:
    bold = re.findall(r"<tr><td>([^<]*)</td>.*beyond", page)
    assert "accuracy" in bold and "top-3 accuracy" not in bold
    alike = [True, False] * 30
    assert 'beyond"' not in render(RECORD, (model(alike, 1.0, 1.0), model(alike, 1.0, 1.0)), 0.9)


def test_the_classes_that_changed_most_come_first(page: str) -> None:
    changes = [name for name in rows_of(page) if name in ("dog", "sea waves", "&lt;b&gt;rain&lt;/b&gt;")]
    assert changes == ["&lt;b&gt;rain&lt;/b&gt;", "sea waves"], "as many dogs as before"
    assert rows_of(page)["sea waves"] == ["20", "10", "20", "+10"]


def test_names_and_reasons_are_escaped(page: str) -> None:
    assert "<better>" not in page and "<b>rain" not in page and "it is &lt;better&gt;" in page
    assert "http://" not in page and "https://" not in page and "<script" not in page


def test_without_a_comparison_the_page_says_so() -> None:
    page = render(RECORD, None, 0.9)
    assert "The models were not compared" in page and "it is &lt;better&gt;" in page


def test_probabilities_are_put_into_the_order_of_the_challenger() -> None:
    predictions = trainings.predict(CLIPS, [True] * 60, CLASSES, seed=1)
    other = Predictions.of(CLIPS, predictions.probabilities()[:, ::-1], CLASSES[::-1])
    assert np.array_equal(other.with_classes(CLASSES).probabilities(), predictions.probabilities())
    assert np.array_equal(other.with_classes(CLASSES).labels(), predictions.labels())
