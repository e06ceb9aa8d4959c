"""Curves, confusion matrix, spectrogram pictures. Figures are made without pyplot, so no state is shared or leaks."""

import base64
import io
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator

from audiocnn.config import SpectrogramSettings
from audiocnn.features import FLOOR

TRAIN, TEST, INK = "#4c78a8", "#e4572e", "#333333"
DPI = 110
RANGE = 80.0  # dB from the darkest to the brightest of a spectrogram


def curves(history: pd.DataFrame, tested: str = "test fold") -> dict[str, Figure]:
    """The three curves over the epochs: "loss", "accuracy", "lr".

    Args:
        history: one row an epoch; columns epoch, lr, train_loss, train_accuracy, test_loss, test_accuracy.
        tested: what the clips are called that the last two are of.
    """
    loss = _lines(history, {"training": "train_loss", tested: "test_loss"}, "cross-entropy in nats")
    accuracy = _lines(history, {"training": "train_accuracy", tested: "test_accuracy"}, "accuracy in %", 100)
    return {"loss": loss, "accuracy": accuracy, "lr": _lines(history, {"learning rate": "lr"}, "learning rate")}


def confusion(matrix: npt.NDArray[np.int64], classes: Sequence[str]) -> Figure:
    """The confusion matrix (n_classes, n_classes), rows true, as shares of the row; the numbers are clips."""
    size = max(4.5, 0.28 * len(classes) + 2.2)
    figure = Figure(figsize=(size + 0.8, size), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    shares = matrix / np.maximum(1, matrix.sum(axis=1, keepdims=True))
    image = axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.6, 0, 1))  # a few confused clips stay visible
    names = [name.replace("_", " ") for name in classes]
    axes.set_xticks(range(len(names)), names, rotation=90)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("said")
    axes.set_ylabel("true")
    axes.tick_params(labelsize=8, length=0)
    axes.spines[:].set_visible(False)
    for row, column in zip(*np.nonzero(matrix), strict=True):
        colour = "white" if shares[row, column] > 0.5 else INK
        axes.text(column, row, str(matrix[row, column]), ha="center", va="center", fontsize=7, color=colour)
    bar = figure.colorbar(image, ax=axes, shrink=0.7, label="share of the true class")
    bar.outline.set_visible(False)
    return figure


def spectrogram(values: npt.NDArray[np.floating], settings: SpectrogramSettings, title: str = "") -> Figure:
    """A log-mel spectrogram (n_mels, frames) in dB, with seconds and hertz on its axes."""
    figure = Figure(figsize=(5.2, 2.6), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    image = _draw(axes, values, settings.seconds)
    axes.set_xlabel("s")
    ticks = np.linspace(0, settings.n_mels - 1, 5)
    axes.set_yticks(ticks, [f"{hertz / 1000:.1f}" for hertz in mel_to_hertz(ticks / (settings.n_mels - 1), settings)])
    axes.set_ylabel("kHz")
    figure.colorbar(image, ax=axes, label="dB")
    if title:
        axes.set_title(title, fontsize=9, loc="left")
    return figure


def thumbnail(values: npt.NDArray[np.floating], seconds: float) -> Figure:
    """A spectrogram (n_mels, frames) as a bare picture for tables and lists."""
    figure = Figure(figsize=(2.16, 1.0), dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    _draw(axes, values, seconds)
    axes.set_axis_off()
    return figure


def mel_to_hertz(share: npt.NDArray[np.floating], settings: SpectrogramSettings) -> npt.NDArray[np.floating]:
    """Frequencies in Hz at shares (0 to 1) of the HTK mel range f_min to f_max, for axis labels."""
    low, high = (2595 * np.log10(1 + f / 700) for f in (settings.f_min, settings.f_max))
    hertz: npt.NDArray[np.floating] = 700 * (10 ** ((low + share * (high - low)) / 2595) - 1)
    return hertz


def png(figure: Figure) -> bytes:
    """The figure as a PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})  # the same figure gives the same bytes
    return buffer.getvalue()


def data_uri(figure: Figure) -> str:
    """The figure as a PNG inside a data URI, for pages that must stand alone."""
    return "data:image/png;base64," + base64.b64encode(png(figure)).decode()


def _draw(axes: Axes, values: npt.NDArray[np.floating], seconds: float) -> AxesImage:
    top = max(float(values.max()), 10 * np.log10(FLOOR) + RANGE)  # or silence would be the loudest there is
    extent = (0.0, seconds, -0.5, len(values) - 0.5)
    # RANGE below the loudest is as dark as it gets: digital silence would eat the whole scale.
    bottom = top - RANGE
    return axes.imshow(
        values.astype(np.float32), origin="lower", aspect="auto", cmap="magma", vmin=bottom, vmax=top, extent=extent
    )


def _lines(history: pd.DataFrame, columns: dict[str, str], label: str, scale: float = 1.0) -> Figure:
    figure = Figure(figsize=(4.4, 2.9), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    for (name, column), colour in zip(columns.items(), (TRAIN, TEST), strict=False):
        known = history.dropna(subset=column)  # the test fold is not looked at in every epoch
        marker = "o" if len(known) < 3 else ""
        axes.plot(known["epoch"], known[column] * scale, color=colour, label=name, marker=marker, linewidth=1.6)
    axes.set_xlabel("epoch")
    axes.set_ylabel(label)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if len(columns) > 1:
        axes.legend(frameon=False)
    return figure
