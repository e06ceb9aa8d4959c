"""The answer to /explanations/NAME: what the network computes from one window of a recording; see docs/serving.md."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from audiocnn.audio import SILENCE_THRESHOLD
from audiocnn.classifier import Classifier
from audiocnn.errors import Silent
from audiocnn.explanation import envelope, explanation_json
from audiocnn.recordings import Analysis, build_answer
from audiocnn.streams import SoundStream
from audiocnn.windows import CHUNK_SECONDS, Grid, chunks
from serving.torchserve.statuses import InvalidOption

HEADER = "explain"  # that TorchServe adds to requests for /explanations


@dataclass(frozen=True)
class ExplanationOptions:
    """The window that begins at `start`, in s, and the index of a class; None for the most probable one."""

    start: float = 0.0
    index: int | None = None


def is_explanation(headers: Mapping[str, Any]) -> bool:
    """Return whether a request was sent to /explanations."""
    return headers.get(HEADER) == "True"


def parse_explanation(given: Mapping[str, str], classes: Sequence[str]) -> ExplanationOptions:
    """Return the options of an explanation.

    Raises:
        InvalidOption: an unknown option or an invalid value.
    """
    values: dict[str, Any] = {}
    for name, value in given.items():
        if name == "start":
            values[name] = _seconds(value)
        elif name == "class":
            if value not in classes:
                raise InvalidOption(f"the model has no class {value!r}; its classes are {', '.join(classes)}")
            values["index"] = classes.index(value)
        else:
            raise InvalidOption(f"there is no option {name!r}; the options are start and class")
    return ExplanationOptions(**values)


def explain(
    classifier: Classifier, stream: SoundStream, options: ExplanationOptions, device: str | torch.device = "cpu"
) -> dict[str, Any]:
    """Return the JSON object about one window, without the fields `model` and `clip`.

    Args:
        stream: an open recording of at most CHUNK_SECONDS, or of one window.
    Raises:
        AudioError: the recording cannot be read, or the window is silent.
        InvalidOption: the window begins after the end of the recording.
    """
    grid = Grid.of(classifier.settings)
    (chunk,) = chunks(stream, grid, seconds=2 * max(CHUNK_SECONDS, grid.seconds))  # all of it
    if options.start >= stream.seconds:
        raise InvalidOption(
            f"the option start is a time in the recording, which lasts {stream.seconds:.3f} s, not {options.start:g}"
        )
    first = min(round(options.start * grid.rate), grid.starts(len(chunk.waveform))[-1])
    window = np.zeros(grid.samples, np.float32)
    part = chunk.waveform[first : first + grid.samples]
    window[: len(part)] = part
    if np.abs(window).max() < SILENCE_THRESHOLD:
        raise Silent(f"the window that begins at {first / grid.rate:.3f} s is silent; choose another start")
    explained = classifier.explain(torch.from_numpy(window).to(device))
    analysis = Analysis((first / grid.rate,), explained.probabilities[None].cpu().numpy())
    answer = build_answer(analysis, stream.seconds, grid, classifier.classes, thresholds=classifier.thresholds)
    answer["window"]["start"] = round(first / grid.rate, 4)
    return {
        **answer,
        "waveform": {"seconds": round(stream.seconds, 3), **envelope(chunk.waveform)},
        **explanation_json(classifier, explained, options.index),
    }


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < np.inf:
        raise InvalidOption(f"the option start is a time in s from the beginning of the recording, not {text!r}")
    return value
