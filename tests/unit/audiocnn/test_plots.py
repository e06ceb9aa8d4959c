"""Labels and data of the figures, and reproducible PNG files."""

import numpy as np
import pandas as pd
import pytest

from audiocnn import plots


def test_confusion_matrix_labels_axes_and_numbers() -> None:
    axes = plots.confusion(np.array([[3, 1], [0, 2]]), ["sea_waves", "rain"]).axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "true")
    assert [label.get_text() for label in axes.get_xticklabels()] == ["sea waves", "rain"]
    numbers = {text.get_position(): text.get_text() for text in axes.texts}
    assert numbers == {(0, 0): "3", (1, 0): "1", (1, 1): "2"}  # (predicted, true); zeros are left out


def test_a_large_confusion_matrix_shows_the_most_frequent_confusions() -> None:
    classes = [f"class {number}" for number in range(100)]
    matrix = 9 * np.eye(100, dtype=np.int64)
    matrix[90, 80], matrix[80, 5], matrix[70, 71] = 7, 5, 1
    reduced, names = plots.readable_confusion(matrix, classes)
    assert reduced.sum() == matrix.sum() and reduced.shape == (60, 60)
    assert {"class 90", "class 80", "class 5", "class 70", "class 71"} < set(names)
    assert names[-1] == "41 other classes" and reduced[-1, -1] == 41 * 9
    assert reduced[names.index("class 90"), names.index("class 80")] == 7
    table = plots.confusion_table(matrix, classes, count=20)
    assert table[["true", "predicted", "clips"]].to_numpy().tolist() == [
        ["class 90", "class 80", 7],
        ["class 80", "class 5", 5],
        ["class 70", "class 71", 1],
    ]
    assert table["share"].tolist() == pytest.approx([7 / 16, 5 / 14, 1 / 10])


def test_a_small_confusion_matrix_is_shown_whole() -> None:
    matrix = np.ones((60, 60), np.int64)
    assert plots.readable_confusion(matrix, ["class"] * 60)[0] is matrix


def test_curves_skip_epochs_without_an_evaluation() -> None:
    history = pd.DataFrame({"epoch": [1, 2], "lr": 0.1, "train_loss": 1.0, "train_accuracy": [0.25, 0.5]})
    history = history.assign(test_loss=[np.nan, 2.0], test_accuracy=[np.nan, 0.75])
    figures = plots.curves(history, "validation fold")
    assert list(figures) == ["loss", "accuracy", "lr"]
    lines = {line.get_label(): line.get_xydata().tolist() for line in figures["accuracy"].axes[0].lines}
    assert lines == {"training": [[1, 25], [2, 50]], "validation fold": [[2, 75]]}


def test_equal_figures_give_equal_png_files() -> None:
    values = np.random.default_rng(0).uniform(-100, 0, (16, 20))
    first, second = (plots.png(plots.thumbnail(values, 5.0)) for _ in range(2))
    assert first == second and first.startswith(b"\x89PNG")


def test_the_calibration_chart_shows_accuracy_intervals_and_clips() -> None:
    bins = pd.DataFrame({"confidence": [0.3, 0.9], "accuracy": [0.5, 1.0], "clips": [2, 8]})
    upper, lower = plots.calibration({"model": bins.assign(low=[0.1, 0.7], high=[0.9, 1.0])}).axes
    (line,) = (container.lines[0] for container in upper.containers)
    assert line.get_xydata().tolist() == [[30, 50], [90, 100]]
    assert [bar.get_height() for bar in lower.patches] == [2, 8]
    ends = [segment[:, 1].tolist() for segment in upper.collections[0].get_segments()]
    assert np.array(ends) == pytest.approx(np.array([[10, 90], [70, 100]]))


def test_the_calibration_chart_shows_two_models_beside_each_other() -> None:
    bins = pd.DataFrame({"confidence": [0.5], "accuracy": [0.5], "clips": [4], "low": [0.2], "high": [0.8]})
    upper, lower = plots.calibration({"new": bins, "old": bins}).axes
    assert [text.get_text() for text in upper.get_legend().get_texts()] == ["calibrated", "new", "old"]
    first, second = lower.patches
    assert first.get_x() + first.get_width() == pytest.approx(second.get_x())
