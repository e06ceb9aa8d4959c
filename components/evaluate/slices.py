"""Accuracy by level, length and sample rate of the clips: it may be low for a kind of clips that is rare."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from audiocnn.data.spectrogram_set import SpectrogramSet
from audiocnn.intervals import share_interval
from mlops.artifacts import Predictions

COLUMNS = ("property", "group", "clips", "accuracy", "low", "high")


def slice_table(
    predictions: Predictions, data: SpectrogramSet, rows: npt.NDArray[np.int64], confidence: float
) -> pd.DataFrame:
    """Return one row per group of clips, columns COLUMNS. A property in which all clips are alike has no rows.

    Args:
        rows: the positions in `data` of the clips, in the order of the predictions.
    """
    found = []
    for name, groups in _groups(data, rows).items():
        parts = list(predictions.table.groupby(groups, observed=True))
        for group, clips in parts if len(parts) > 1 else []:
            hits, recordings = clips["correct"].to_numpy(), clips["src_file"].to_numpy()
            found.append((name, group, len(clips), hits.mean(), *share_interval(hits, recordings, confidence)))
    return pd.DataFrame(found, columns=list(COLUMNS))


def _groups(data: SpectrogramSet, rows: npt.NDArray[np.int64]) -> dict[str, pd.Categorical]:
    settings, clips = data.settings, data.clips.iloc[rows]
    # From the spectrograms: the audio of all clips would have to be decoded again.
    level = pd.Series([np.mean(10 ** (data.spectrograms[row].astype(np.float32) / 10)) for row in rows])
    quarter = np.ceil(4 * level.rank(method="first", pct=True)).to_numpy() - 1
    length = np.sign(np.round(clips["frames"] / clips["rate"] * settings.rate) - settings.samples)
    rate = np.sign(clips["rate"] - settings.rate)
    names = {
        "level": (quarter, ("quietest quarter", "second quarter", "third quarter", "loudest quarter")),
        "length": (length + 1, tuple(f"{word} {settings.seconds:g} s" for word in ("shorter than", "", "longer than"))),
        "sample rate": (rate + 1, tuple(f"{word} {settings.rate:,} Hz" for word in ("below", "", "above"))),
    }
    return {
        name: pd.Categorical.from_codes(np.asarray(codes, np.int64), [group.strip() for group in groups])
        for name, (codes, groups) in names.items()
    }
