"""Classify the windows of recordings."""

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import torch

from audiocnn.classifier import Classifier
from audiocnn.recordings import Analysis
from audiocnn.streams import SoundStream, open_stream
from audiocnn.windows import Grid, Windows, chunks, cut

FloatArray = npt.NDArray[np.float32]
BATCH_WINDOWS = 16  # of a forward pass; the feature maps of more would take gigabytes


def analyze(
    classifier: Classifier, source: Path | bytes | BinaryIO, device: str = "cpu", ffmpeg: bool = False
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
        parts = [classify_windows(classifier, [cut(chunk, grid)], device)[0] for chunk in chunks(stream, grid)]
    return Analysis.merge(parts), stream


def classify_windows(
    classifier: Classifier, chunks: Sequence[Windows], device: str | torch.device = "cpu"
) -> list[Analysis]:
    """Classify the windows of chunks, possibly of several recordings, in shared forward passes.

    Returns:
        the analysis of each chunk.
    """
    heard = [windows.waveforms[~windows.silent] for windows in chunks]
    waveforms = np.concatenate(heard) if heard else np.empty((0, classifier.settings.samples), np.float32)
    rows = np.empty((len(waveforms), len(classifier.classes)), np.float32)
    for first in range(0, len(waveforms), BATCH_WINDOWS):
        batch = torch.from_numpy(waveforms[first : first + BATCH_WINDOWS]).to(device)
        rows[first : first + BATCH_WINDOWS] = classifier.classify(batch).cpu().numpy()
    analyses, used = [], 0
    for windows in chunks:
        analysis = Analysis.silence(windows.starts, len(classifier.classes))
        count = int((~windows.silent).sum())
        analysis.probabilities[~windows.silent] = rows[used : used + count]
        used += count
        analyses.append(analysis)
    return analyses
