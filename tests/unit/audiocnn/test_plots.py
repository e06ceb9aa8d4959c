"""Labels and data of the figures, and reproducible PNG files."""

import numpy as np
import pandas as pd

from audiocnn import plots


def test_confusion_matrix_labels_axes_and_numbers() -> None:
    axes = plots.confusion(np.array([[3, 1], [0, 2]]), ["sea_waves", "rain"]).axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "true")
    assert [label.get_text() for label in axes.get_xticklabels()] == ["sea waves", "rain"]
    numbers = {text.get_position(): text.get_text() for text in axes.texts}
    assert numbers == {(0, 0): "3", (1, 0): "1", (1, 1): "2"}  # (predicted, true); zeros are left out


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
