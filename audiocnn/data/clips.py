"""The clip table, its folds and digest, and the spectrograms of a data set."""

import hashlib
from collections.abc import Collection
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from audiocnn.errors import AudioCNNError

CLIP_COLUMNS = (
    "filename",
    "fold",
    "target",
    "category",
    "src_file",
    "take",
    "md5",
    "xxh3",
    "rate",
    "channels",
    "frames",
)
# Text stays text: a recording named 00123, or a category named "none", must survive the table.
_TEXT = dict.fromkeys(("filename", "category", "src_file", "take", "md5", "xxh3"), str)


class DatasetError(AudioCNNError):
    """A clip table or a spectrogram folder that cannot be used."""


def read_clips(path: Path) -> pd.DataFrame:
    """The clip table as ingest wrote it, one row a clip, columns CLIP_COLUMNS.

    Raises:
        DatasetError: the file is missing, is no table, or lacks a column.
    """
    try:
        clips = pd.read_csv(path, dtype=_TEXT, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: no clip table can be read there: {error}") from error
    missing = [column for column in CLIP_COLUMNS if column not in clips.columns]
    if missing:
        raise DatasetError(f"{path}: is no clip table: column {missing[0]} is missing; run the step ingest first")
    return clips[list(CLIP_COLUMNS)]


def digest(clips: pd.DataFrame) -> str:
    """The data set's name: SHA-256, in hex, over the sorted rows of filename, md5, label and fold."""
    columns = [clips[column].astype(str).tolist() for column in ("filename", "md5", "category", "fold")]
    rows = sorted("\t".join(row) + "\n" for row in zip(*columns, strict=True))
    return hashlib.sha256("".join(rows).encode()).hexdigest()


def class_names(clips: pd.DataFrame) -> tuple[str, ...]:
    """The categories in the order of their target numbers; a class's index in it is the network's output index."""
    pairs = clips[["target", "category"]].drop_duplicates().sort_values("target")
    return tuple(pairs["category"])


def folds(clips: pd.DataFrame) -> tuple[int, ...]:
    """The numbers of the folds, ascending."""
    return tuple(sorted(map(int, clips["fold"].unique())))


def split(
    clips: pd.DataFrame, fold: int, hold_out: Collection[int] = ()
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Row numbers of the training clips (all other folds but those to hold out) and of the test clips (`fold`).

    Raises:
        DatasetError: a fold is not there, none is left to train on, or the training folds lack one of its classes.
    """
    known = folds(clips)
    if absent := [one for one in (fold, *hold_out) if one not in known]:
        raise DatasetError(f"there is no fold {absent[0]} in the data; there are folds {', '.join(map(str, known))}")
    if fold in hold_out:
        raise DatasetError(f"fold {fold} is held out (train.hold_out), so it cannot be the test fold (train.fold) too")
    is_test = clips["fold"].to_numpy() == fold
    if is_test.all():
        raise DatasetError(f"fold {fold} is the only fold, so nothing is left to train on")
    is_train = ~is_test & ~clips["fold"].isin(list(hold_out)).to_numpy()
    if not is_train.any():
        raise DatasetError(f"with {', '.join(map(str, hold_out))} held out, no fold but {fold} is left to train on")
    unseen = sorted(set(clips["category"][is_test]) - set(clips["category"][is_train]))
    if unseen:
        held = " or is held out" if hold_out else ""
        raise DatasetError(f"class {unseen[0]!r} stands in test fold {fold} alone{held}, so it cannot be learnt")
    return np.flatnonzero(is_train), np.flatnonzero(is_test)
