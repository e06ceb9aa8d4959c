"""Metrics against values computed by hand and by scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, brier_score_loss, f1_score, log_loss, top_k_accuracy_score

from audiocnn.evaluation import (
    calibration_error,
    calibration_table,
    class_table,
    difference_intervals,
    mcnemar_p_value,
    score,
)


def one_hot(predicted: list[int], n_classes: int, confidence: float = 0.9) -> np.ndarray:
    """Return probabilities: `confidence` for the predicted class, the rest shared by the others."""
    probabilities = np.full((len(predicted), n_classes), (1 - confidence) / (n_classes - 1))
    probabilities[np.arange(len(predicted)), predicted] = confidence
    return probabilities


def test_scores_equal_those_computed_by_hand() -> None:
    labels = np.array([0, 0, 0, 1, 1, 2])
    scores = score(one_hot([0, 0, 1, 1, 1, 0], 3), labels, range(6))
    assert scores.accuracy == pytest.approx(4 / 6)
    assert scores.confusion.tolist() == [[2, 1, 0], [0, 2, 0], [1, 0, 0]]
    assert scores.per_class.recall.tolist() == pytest.approx([2 / 3, 1, 0])
    assert scores.per_class.precision.tolist() == pytest.approx([2 / 3, 2 / 3, 0])
    assert (scores.min_class_recall, scores.clips) == (0, 6)
    assert scores.loss == pytest.approx(-(4 * np.log(0.9) + 2 * np.log(0.05)) / 6)
    # Wilson, 95 %: (p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)
    assert (scores.accuracy_low, scores.accuracy_high) == (
        pytest.approx(0.3000, abs=1e-4),
        pytest.approx(0.9032, abs=1e-4),
    )


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(4, 7), st.integers(20, 60))
def test_scores_equal_those_of_scikit_learn(seed: int, n_classes: int, clips: int) -> None:
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet(np.full(n_classes, 2.0), clips)
    labels = np.concatenate([np.arange(n_classes), random.integers(0, n_classes, clips - n_classes)])
    classes, predicted = list(range(n_classes)), probabilities.argmax(axis=1)
    scores = score(probabilities, labels, range(clips))
    assert scores.balanced_accuracy == pytest.approx(balanced_accuracy_score(labels, predicted))
    assert scores.macro_f1 == pytest.approx(f1_score(labels, predicted, average="macro", labels=classes))
    assert scores.top3_accuracy == pytest.approx(top_k_accuracy_score(labels, probabilities, k=3, labels=classes))
    assert scores.loss == pytest.approx(log_loss(labels, probabilities, labels=classes))
    brier = brier_score_loss(labels, probabilities, labels=classes, scale_by_half=False)
    assert scores.brier_score == pytest.approx(brier)


def test_intervals_contain_the_values_and_recordings_widen_them() -> None:
    random = np.random.default_rng(0)
    probabilities = np.repeat(random.dirichlet(np.full(5, 0.7), 50), 4, axis=0)
    labels = np.repeat([random.choice(5, p=row) for row in probabilities[::4]], 4)
    clips, recordings = (score(probabilities, labels, names) for names in (range(200), np.repeat(range(50), 4)))
    assert set(clips.intervals) == {
        "accuracy", "balanced_accuracy", "macro_f1", "top3_accuracy", "loss", "brier_score"
    }  # fmt: skip
    for name in clips.intervals:
        (low, high), (wide_low, wide_high) = clips.intervals[name], recordings.intervals[name]
        assert wide_low < low < getattr(clips, name) < high < wide_high
    assert (clips.per_class.recall_low >= recordings.per_class.recall_low).all()


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_intervals_of_differences_compare_clip_by_clip(seed: int) -> None:
    random = np.random.default_rng(seed)
    first, second = random.dirichlet(np.full(4, 0.5), (2, 80))
    labels = np.concatenate([np.arange(4), random.integers(0, 4, 76)])
    there, back = (difference_intervals(*pair, labels, range(80)) for pair in ((first, second), (second, first)))
    scores = [score(each, labels, range(80)) for each in (first, second)]
    assert there.keys() == scores[0].intervals.keys()
    for name, (low, high) in there.items():
        assert back[name] == pytest.approx((-high, -low))
        assert low <= getattr(scores[0], name) - getattr(scores[1], name) <= high
    assert set(difference_intervals(first, first, labels, range(80)).values()) == {(0.0, 0.0)}


def test_class_table_names_the_most_frequent_wrong_prediction() -> None:
    table = class_table(score(one_hot([0, 0, 1, 1, 1, 0], 3), np.array([0, 0, 0, 1, 1, 2]), range(6)), ["a", "b", "c"])
    assert table["class"].tolist() == ["a", "b", "c"] and table["clips"].tolist() == [3, 2, 1]
    assert table["recall"].tolist() == pytest.approx([2 / 3, 1, 0])
    assert table["mistaken_for"].tolist() == ["b", "", "a"]


def test_classes_without_clips_are_left_out_of_the_means() -> None:
    scores = score(one_hot([0, 1], 3), np.array([0, 1]), range(2))
    assert (scores.min_class_recall, scores.macro_f1) == (1.0, 1.0)


def test_calibration_error_is_zero_if_confidence_equals_accuracy() -> None:
    predicted, labels = [0] * 10, np.array([0] * 9 + [1])
    assert calibration_error(one_hot(predicted, 2, 0.9), labels) == pytest.approx(0)
    assert calibration_error(one_hot(predicted, 2, 0.99), labels) == pytest.approx(0.09)


def test_the_calibration_table_has_the_bins_with_clips() -> None:
    table = calibration_table(np.vstack([one_hot([0, 0, 0], 2, 0.9), one_hot([1], 2, 0.6)]), np.array([0, 0, 1, 1]))
    assert table["confidence"].tolist() == pytest.approx([0.6, 0.9])
    assert table["accuracy"].tolist() == pytest.approx([1, 2 / 3]) and table["clips"].tolist() == [1, 3]


@pytest.mark.parametrize("bad", [np.empty((0, 3)), np.full((2, 3), np.nan)])
def test_no_clips_and_nan_probabilities_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"clips|NaN"):
        score(bad, np.zeros(len(bad), np.int64), range(len(bad)))


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_mcnemar_test_is_symmetric_and_finds_no_difference_between_equals(pairs: list[tuple[bool, bool]]) -> None:
    first, second = (np.array(side) for side in zip(*pairs, strict=True))
    assert mcnemar_p_value(first, second) == pytest.approx(mcnemar_p_value(second, first))
    assert mcnemar_p_value(first, first) == 1.0


def test_p_value_is_that_of_the_exact_mcnemar_test() -> None:
    first = np.array([True] * 8 + [False] * 2 + [True] * 30)
    second = np.array([False] * 8 + [True] * 2 + [True] * 30)
    assert mcnemar_p_value(first, second) == pytest.approx(2 * (1 + 10 + 45) / 2**10)
