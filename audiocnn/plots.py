"""Training curves, confusion matrices, calibration and spectrograms, drawn with matplotlib.

Figures are created without pyplot, which would keep global references to them.
"""

import base64
import io
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from audiocnn.features import MIN_POWER

IntArray = npt.NDArray[np.int64]
LINE_COLORS = ("#4c78a8", "#e4572e")
TEXT_COLOR = "#333333"
DPI = 110
MAX_MATRIX_CLASSES = 60  # a larger confusion matrix cannot be read, and drawing it takes gigabytes
DYNAMIC_RANGE = 80.0  # of a spectrogram's colors below its maximum, in dB


def curves(history: pd.DataFrame, evaluated_on: str) -> dict[str, Figure]:
    """Plot loss, accuracy and learning rate by epoch.

    Args:
        history: one row per epoch; columns epoch, lr, train_loss, train_accuracy, test_loss, test_accuracy. The last
            two are NaN in epochs without an evaluation.
        evaluated_on: legend of the last two.
    Returns:
        figures by name: "loss", "accuracy", "lr".
    """
    loss = _lines(history, {"training": "train_loss", evaluated_on: "test_loss"}, "cross-entropy in nats")
    accuracy = _lines(history, {"training": "train_accuracy", evaluated_on: "test_accuracy"}, "accuracy in %", 100)
    return {"loss": loss, "accuracy": accuracy, "lr": _lines(history, {"learning rate": "lr"}, "learning rate")}


def calibration(models: Mapping[str, pd.DataFrame]) -> Figure:
    """Plot accuracy by confidence (a reliability diagram), with the number of clips below.

    Args:
        models: by name for the legend, a table of `audiocnn.evaluation.calibration_table`; at most two.
    """
    figure = Figure(figsize=(5.6, 4.0), dpi=DPI, layout="constrained")
    upper, lower = figure.subplots(2, sharex=True, height_ratios=(4, 1))
    upper.plot((0, 100), (0, 100), color="#999999", linewidth=1, linestyle="--", label="calibrated")
    width = 5 / len(models)
    for number, ((name, bins), color) in enumerate(zip(models.items(), LINE_COLORS, strict=False)):
        middle, accuracy = 100 * bins["confidence"], 100 * bins["accuracy"]
        errors = (accuracy - 100 * bins["low"], 100 * bins["high"] - accuracy)
        upper.errorbar(middle, accuracy, errors, color=color, fmt="o", markersize=5, elinewidth=1.2, label=name)
        lower.bar(middle + width * (number - (len(models) - 1) / 2), bins["clips"], width, color=color)
    upper.set_ylabel("accuracy in %")
    upper.legend(frameon=False, loc="upper left")
    lower.set_ylabel("clips")
    lower.set_xlabel("confidence in %")
    lower.set_xlim(0, 100)
    lower.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=3))
    upper.set_ylim(-2, 102)
    for axes in (upper, lower):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    return figure


def confusion(matrix: IntArray, classes: Sequence[str]) -> Figure:
    """Plot a confusion matrix, reduced by `readable_confusion`: numbers are clips, colors are shares of the true class.

    Args:
        matrix: of shape (n_classes, n_classes); true classes in rows, predicted classes in columns.
    """
    matrix, classes = readable_confusion(matrix, classes)
    size = max(4.5, 0.28 * len(classes) + 2.2)
    figure = Figure(figsize=(size + 0.8, size), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    shares = matrix / np.maximum(1, matrix.sum(axis=1, keepdims=True))
    image = axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.6, 0, 1))  # makes a few confused clips visible
    names = [name.replace("_", " ") for name in classes]
    axes.set_xticks(range(len(names)), names, rotation=90)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.tick_params(labelsize=8, length=0)
    axes.spines[:].set_visible(False)
    for row, column in zip(*np.nonzero(matrix), strict=True):
        color = "white" if shares[row, column] > 0.5 else TEXT_COLOR
        axes.text(column, row, str(matrix[row, column]), ha="center", va="center", fontsize=7, color=color)
    bar = figure.colorbar(image, ax=axes, shrink=0.7, aspect=30, pad=0.01, label="share of the true class")
    bar.outline.set_visible(False)
    return figure


def readable_confusion(matrix: IntArray, classes: Sequence[str]) -> tuple[IntArray, list[str]]:
    """Reduce a confusion matrix to at most MAX_MATRIX_CLASSES classes: those with the most frequent confusions.

    The last row and column of the result are the sum of all other classes. A small matrix is returned as it is.
    """
    if len(classes) <= MAX_MATRIX_CLASSES:
        return matrix, list(classes)
    shown = MAX_MATRIX_CLASSES - 1
    rows, columns = _most_frequent_confusions(matrix, shown**2)  # these have at least `shown` different classes
    kept = sorted(list(dict.fromkeys(np.column_stack([rows, columns]).ravel().tolist()))[:shown])
    group = np.full(len(classes), shown)
    group[kept] = np.arange(shown)
    reduced = np.zeros((shown + 1, shown + 1), np.int64)
    np.add.at(reduced, (group[:, None], group[None, :]), matrix)
    return reduced, [*(classes[index] for index in kept), f"{len(classes) - shown} other classes"]


def confusion_table(matrix: IntArray, classes: Sequence[str], count: int) -> pd.DataFrame:
    """Return the `count` most frequent confusions: columns true, predicted, clips and share (of the true class)."""
    rows, columns = _most_frequent_confusions(matrix, count)
    names, clips = np.array(classes), matrix[rows, columns]
    table = {
        "true": names[rows],
        "predicted": names[columns],
        "clips": clips,
        "share": clips / matrix[rows].sum(axis=1),
    }
    return pd.DataFrame(table)[clips > 0]


def _most_frequent_confusions(matrix: IntArray, count: int) -> tuple[IntArray, IntArray]:
    """Return the true and the predicted classes of the `count` largest values beside the diagonal.

    Among equal values, those of the classes with the lowest recall come first.
    """
    recall = matrix.diagonal() / np.maximum(1, matrix.sum(axis=1))
    ranked = matrix + (1 - recall[:, None]) / 2
    np.fill_diagonal(ranked, -1)
    order = np.argsort(-ranked, axis=None, kind="stable")[:count]
    rows, columns = np.unravel_index(order, ranked.shape)
    return rows, columns


def thumbnail(values: npt.NDArray[np.floating], seconds: float) -> Figure:
    """Plot a spectrogram of shape (n_mels, frames), in dB, without axes. A silent clip is dark."""
    figure = Figure(figsize=(2.16, 1.0), dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    top = max(float(values.max()), 10 * np.log10(MIN_POWER) + DYNAMIC_RANGE)
    limits = {"vmin": top - DYNAMIC_RANGE, "vmax": top, "extent": (0.0, seconds, -0.5, len(values) - 0.5)}
    axes.imshow(values.astype(np.float32), origin="lower", aspect="auto", cmap="magma", **limits)
    axes.set_axis_off()
    return figure


def png(figure: Figure) -> bytes:
    """Return the figure as PNG; equal figures give equal bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def data_uri(figure: Figure) -> str:
    """Return the figure as PNG in a data URI, for HTML pages without external files."""
    return "data:image/png;base64," + base64.b64encode(png(figure)).decode()


def _lines(history: pd.DataFrame, columns: dict[str, str], label: str, scale: float = 1.0) -> Figure:
    figure = Figure(figsize=(4.4, 2.9), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    for (name, column), color in zip(columns.items(), LINE_COLORS, strict=False):
        known = history.dropna(subset=column)
        marker = "o" if len(known) < 3 else ""
        axes.plot(known["epoch"], known[column] * scale, color=color, label=name, marker=marker, linewidth=1.6)
    axes.set_xlabel("epoch")
    axes.set_ylabel(label)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if len(columns) > 1:
        axes.legend(frameon=False)
    return figure
