"""The answer about a recording, from the probabilities of its windows.

TorchServe's handler, the gateway and `audiocnn classify --local` build their answers here, so that they are the same.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from audiocnn.errors import Silent
from audiocnn.events import find_events
from audiocnn.resampling import FloatArray
from audiocnn.windows import Grid

TOP_CLASSES = 5
UNKNOWN = "unknown"  # label of a recording in which no class reaches its threshold


@dataclass(frozen=True)
class Analysis:
    """The class probabilities of the windows of a recording, or of a part of it.

    Attributes:
        starts: of the windows in s, from the beginning of the recording.
        probabilities: float32 of shape (windows, classes); NaN in the rows of silent windows.
    """

    starts: tuple[float, ...]
    probabilities: FloatArray

    @classmethod
    def merge(cls, parts: Iterable[Self]) -> Self:
        """Return the analysis of a recording from those of its chunks, in order; there is at least one."""
        parts = list(parts)
        starts = tuple(start for part in parts for start in part.starts)
        return cls(starts, np.concatenate([part.probabilities for part in parts]))

    @classmethod
    def silence(cls, starts: Sequence[float], classes: int) -> Self:
        """Return the analysis of silent windows, with a model of this number of classes."""
        return cls(tuple(starts), np.full((len(starts), classes), np.nan, np.float32))

    @property
    def silent(self) -> npt.NDArray[np.bool_]:
        """Which windows are silent, of shape (windows,)."""
        return np.asarray(np.isnan(self.probabilities).any(axis=1))


@dataclass(frozen=True)
class AnswerOptions:
    """What an answer contains beside the summary.

    Attributes:
        top_k: number of classes in `predictions`.
        events: whether to add `events`.
        windows: whether to add `windows`, `classes` and `thresholds`, from which a client merges chunks.
    """

    top_k: int = TOP_CLASSES
    events: bool = False
    windows: bool = False


def pool(probabilities: FloatArray) -> FloatArray:
    """Return the probabilities of a recording, of shape (classes,): the mean over the windows that are not silent.

    Args:
        probabilities: of shape (windows, classes); NaN in the rows of silent windows.
    Raises:
        Silent: all windows are silent.
    """
    rows = probabilities[~np.isnan(probabilities).any(axis=1)]
    if len(rows) == 0:
        raise Silent(
            "the recording is silent: after its channels are mixed, no sample reaches one step of 16-bit audio"
        )
    mean: FloatArray = rows[0] if len(rows) == 1 else rows.mean(axis=0, dtype=np.float64).astype(np.float32)
    return mean


def label_of(probabilities: FloatArray, classes: Sequence[str], thresholds: Mapping[str, float] | None) -> str:
    """Return the most probable class, or UNKNOWN if its probability is below its threshold.

    Args:
        probabilities: of shape (classes,).
        classes: their names.
        thresholds: of `audiocnn.calibration`; None: the model has none.
    """
    best = int(probabilities.argmax())
    name = classes[best]
    return UNKNOWN if thresholds is not None and probabilities[best] < thresholds[name] else name


def build_answer(
    analysis: Analysis,
    seconds: float,
    grid: Grid,
    classes: Sequence[str],
    options: AnswerOptions = AnswerOptions(),  # noqa: B008  it is frozen
    thresholds: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Return the JSON object that answers a recording, without the fields `model` and `clip`.

    Args:
        analysis: of the whole recording.
        seconds: length of the recording.
        grid: of the model.
        classes: names of the columns of the probabilities.
        options: what to add.
        thresholds: least probability of each class, if the model is calibrated; below it, the label is UNKNOWN.
    Raises:
        Silent: all windows are silent.
    """
    pooled = pool(analysis.probabilities)
    best = np.argsort(-pooled, kind="stable")[: options.top_k]
    not_silent = [start for start, silent in zip(analysis.starts, analysis.silent, strict=True) if not silent]
    analyzed = covered_seconds(not_silent, grid.seconds, seconds)
    answer: dict[str, Any] = {
        "predictions": [{"class": classes[index], "probability": float(pooled[index])} for index in best],
        "label": label_of(pooled, classes, thresholds),
        "calibrated": thresholds is not None,
        "analyzed_seconds": round(analyzed, 3),
        "silent_seconds": round(covered_seconds(analysis.starts, grid.seconds, seconds) - analyzed, 3),
        "window": {"seconds": grid.seconds, "hop": grid.hop / grid.rate, "rate": grid.rate},
    }
    if options.events:
        found = find_events(analysis.probabilities, analysis.starts, grid.seconds, classes, seconds=seconds)
        answer["events"] = [event.to_dict() for event in found]
    if options.windows:
        answer |= {"windows": _describe_windows(analysis), "classes": list(classes), "thresholds": thresholds}
    return answer


def read_windows(answer: Mapping[str, Any], start: float = 0.0) -> Analysis:
    """Return the analysis in an answer with `windows`; `start` is that of the chunk in the recording, in s."""
    nothing = [float("nan")] * len(answer["classes"])
    rows = [window["probabilities"] or nothing for window in answer["windows"]]
    starts = tuple(start + window["start"] for window in answer["windows"])
    return Analysis(starts, np.array(rows, np.float32))


def covered_seconds(starts: Iterable[float], window_seconds: float, seconds: float) -> float:
    """Return the length of the part of a recording, `seconds` long, that windows with these `starts` cover."""
    covered = end = 0.0
    for start in starts:
        begin, end = max(start, end), min(start + window_seconds, seconds)
        covered += max(0.0, end - begin)
    return covered


def _describe_windows(analysis: Analysis) -> list[dict[str, Any]]:
    return [
        {"start": start, "probabilities": None if silent else row.tolist()}
        for start, row, silent in zip(analysis.starts, analysis.probabilities, analysis.silent, strict=True)
    ]
