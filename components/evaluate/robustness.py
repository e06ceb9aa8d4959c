"""Accuracy on changed clips: with noise, quieter, compressed, and so on."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from audiocnn import audio
from audiocnn.classifier import Classifier
from audiocnn.intervals import share_interval
from audiocnn.robustness import CHANGES
from mlops.artifacts import Predictions

COLUMNS = ("change", "clips", "accuracy", "low", "high", "lost", "gained")
BATCH = 16  # clips; all their changed waveforms are in memory


def robustness_table(
    classifier: Classifier, predictions: Predictions, audio_folder: Path, clips: int, confidence: float
) -> pd.DataFrame:
    """Return one row for the unchanged clips and one per change in `audiocnn.robustness`, columns COLUMNS.

    `lost` are clips that are classified correctly only without the change, `gained` only with it.

    Args:
        clips: number of clips, spread evenly over the classes; 0 gives an empty table.
    """
    table = predictions.table
    chosen = table.loc[table.groupby("category").cumcount().sort_values(kind="stable").index[:clips]]
    if chosen.empty:
        return pd.DataFrame(columns=list(COLUMNS))
    labels = predictions.labels()[chosen.index]
    before = chosen["correct"].to_numpy() == 1
    hits = {"unchanged": before} | _hits(classifier, [audio_folder / name for name in chosen["filename"]], labels)
    recordings = chosen["src_file"].to_numpy()
    rows = [
        (
            name,
            len(chosen),
            after.mean(),
            *share_interval(after, recordings, confidence),
            int((before & ~after).sum()),
            int((after & ~before).sum()),
        )
        for name, after in hits.items()
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _hits(classifier: Classifier, files: list[Path], labels: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[np.bool_]]:
    """Return for each change whether the changed clips are classified correctly."""
    predicted: dict[str, list[npt.NDArray[np.int64]]] = {name: [] for name in CHANGES}
    device, settings = next(classifier.parameters()).device, classifier.settings
    for first in range(0, len(files), BATCH):
        waveforms = [audio.load(file, settings) for file in files[first : first + BATCH]]
        for name, change in CHANGES.items():
            changed = np.stack([change(waveform, settings.rate) for waveform in waveforms])
            probabilities = classifier.classify(torch.from_numpy(changed).to(device))
            predicted[name].append(probabilities.argmax(dim=1).cpu().numpy())
    return {name: np.concatenate(parts) == labels for name, parts in predicted.items()}
