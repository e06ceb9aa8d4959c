"""Classify the windows of recordings."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from audiocnn.classifier import Classifier
from audiocnn.features import LogMel
from audiocnn.recordings import Analysis
from audiocnn.streams import SoundStream, open_stream
from audiocnn.windows import Grid, Windows, chunks, cut

BATCH_WINDOWS = 16  # of a forward pass; the feature maps of more would take gigabytes


@dataclass(frozen=True)
class WindowSpectrograms:
    """The network's input for the windows of a chunk.

    Attributes:
        starts: of all windows in s, from the beginning of the recording.
        silent: which of them are silent, of shape (windows,).
        values: spectrograms of the others, of shape (windows that are not silent, n_mels, frames), in dB.
    """

    starts: tuple[float, ...]
    silent: npt.NDArray[np.bool_]
    values: Tensor


def analyze(
    classifier: Classifier, source: Path | bytes | BinaryIO, ffmpeg: bool = False
) -> tuple[Analysis, SoundStream]:
    """Classify all windows of a recording of any length, in bounded memory.

    Args:
        ffmpeg: whether the program ffmpeg may decode the recording; see `audiocnn.ffmpeg`.
    Returns:
        the analysis, and the closed stream with the rate, the number of channels and the duration.
    Raises:
        AudioError: as `audiocnn.windows.chunks`.
    """
    grid = Grid.of(classifier.settings)
    with open_stream(source, ffmpeg=ffmpeg) as stream:
        inputs = (compute_spectrograms(classifier.front_end, cut(chunk, grid)) for chunk in chunks(stream, grid))
        parts = [classify_windows(classifier, [chunk])[0] for chunk in inputs]
    return Analysis.merge(parts), stream


def compute_spectrograms(front_end: LogMel, windows: Windows) -> WindowSpectrograms:
    """Compute, on the CPU, the spectrograms of the windows of a chunk that are not silent."""
    waveforms = torch.from_numpy(windows.waveforms[~windows.silent])
    shape = (0, front_end.settings.n_mels, front_end.settings.frames)
    # One by one, as `Classifier.classify` does.
    values = [front_end(waveform) for waveform in waveforms]
    return WindowSpectrograms(windows.starts, windows.silent, torch.stack(values) if values else torch.empty(shape))


def classify_windows(
    classifier: Classifier, chunks: Sequence[WindowSpectrograms], device: str | torch.device = "cpu"
) -> list[Analysis]:
    """Classify the windows of chunks, possibly of several recordings, in shared forward passes.

    Returns:
        the analysis of each chunk.
    """
    rows = np.empty((sum(len(chunk.values) for chunk in chunks), len(classifier.classes)), np.float32)
    if len(rows):
        spectrograms = torch.cat([chunk.values for chunk in chunks])
        for first in range(0, len(rows), BATCH_WINDOWS):
            batch = spectrograms[first : first + BATCH_WINDOWS].to(device)
            rows[first : first + BATCH_WINDOWS] = classifier.classify_spectrograms(batch).cpu().numpy()
    analyses, used = [], 0
    for chunk in chunks:
        analysis = Analysis.silence(chunk.starts, len(classifier.classes))
        analysis.probabilities[~chunk.silent] = rows[used : used + len(chunk.values)]
        used += len(chunk.values)
        analyses.append(analysis)
    return analyses
