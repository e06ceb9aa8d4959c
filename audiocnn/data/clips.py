"""The clip table, its folds and its digest."""

import hashlib
from collections.abc import Collection
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from audiocnn.config import fold_role
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
# Without explicit types, pandas would read a recording named 00123 as a number and a category named "none" as NaN.
_TEXT = dict.fromkeys(("filename", "category", "src_file", "take", "md5", "xxh3"), str)


class DatasetError(AudioCNNError):
    """A clip table or a spectrogram folder that cannot be used."""


def read_clips(path: Path) -> pd.DataFrame:
    """Return the clip table that the step ingest wrote: one row per clip, columns CLIP_COLUMNS.

    Raises:
        DatasetError: the file is missing, is not a table, or lacks a column.
    """
    try:
        clips = pd.read_csv(path, dtype=_TEXT, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: the clip table cannot be read: {error}; run the step ingest again") from error
    missing = [column for column in CLIP_COLUMNS if column not in clips.columns]
    if missing:
        raise DatasetError(f"{path}: not a clip table, column {missing[0]} is missing; run the step ingest first")
    return clips[list(CLIP_COLUMNS)]


def digest(clips: pd.DataFrame) -> str:
    """Return the data set's digest: SHA-256, in hex, over the sorted rows of filename, MD5, label and fold."""
    columns = [clips[column].astype(str).tolist() for column in ("filename", "md5", "category", "fold")]
    rows = sorted("\t".join(row) + "\n" for row in zip(*columns, strict=True))
    return hashlib.sha256("".join(rows).encode()).hexdigest()


def class_names(clips: pd.DataFrame) -> tuple[str, ...]:
    """Return the categories in the order of their target numbers, which is the order of the network's outputs."""
    pairs = clips[["target", "category"]].drop_duplicates().sort_values("target")
    return tuple(pairs["category"])


def folds(clips: pd.DataFrame) -> tuple[int, ...]:
    """Return the fold numbers in ascending order."""
    return tuple(sorted(map(int, clips["fold"].unique())))


def rows_of(clips: pd.DataFrame, fold: int | None, classes: Collection[str]) -> npt.NDArray[np.int64]:
    """Return the row numbers of the clips of these classes in a fold; None is no fold."""
    return np.flatnonzero((clips["fold"] == fold) & clips["category"].isin(list(classes)))


def split(
    clips: pd.DataFrame,
    fold: int,
    hold_out: Collection[int] = (),
    calibration_fold: int | None = None,
    leave_out: Collection[str] = (),
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return row numbers of the training clips (all folds without another role) and of the test clips (`fold`).

    The arguments are those of TrainSettings. Clips of the classes in `leave_out` are in neither part.

    Raises:
        DatasetError: there is one class; a fold or a class to leave out does not exist; a fold has two roles; no
            training fold is left; a class has no clip in the training folds or none in the test fold; or the
            calibration fold has only clips of classes to leave out.
    """
    if unknown := sorted(set(leave_out) - set(clips["category"])):
        raise DatasetError(f"train.leave_out: the data has no class {unknown[0]!r}; correct its name")
    is_left_out = clips["category"].isin(list(leave_out)).to_numpy()
    if len(classes := sorted(set(clips["category"][~is_left_out]))) < 2:
        if leave_out:
            raise DatasetError("train.leave_out leaves less than two classes; leave out fewer")
        raise DatasetError(f"all clips have the class {', '.join(classes)}; add clips of a second class")
    role, existing = fold_role(hold_out), folds(clips)
    _check_roles(existing, fold, hold_out, calibration_fold, role)
    if calibration_fold is not None and not len(rows_of(clips, calibration_fold, classes)):
        raise DatasetError(
            f"train.calibration_fold: fold {calibration_fold} has no clip of the classes of the model, only of those "
            "in train.leave_out; choose another fold"
        )
    is_test = clips["fold"].to_numpy() == fold
    if is_test.all():
        raise DatasetError(f"fold {fold} is the only fold, so none is left for training; add clips in another fold")
    reserved_folds = hold_out if calibration_fold is None else (*hold_out, calibration_fold)
    is_train = ~is_test & ~clips["fold"].isin(list(reserved_folds)).to_numpy()
    if not is_train.any():
        reserved = ", ".join(map(str, reserved_folds))
        key = "train.hold_out" if hold_out else "train.calibration_fold"
        raise DatasetError(
            f"{key}: the folds {reserved} leave no training fold for {role} {fold}; hold out fewer folds"
        )
    is_train, is_known = is_train & ~is_left_out, is_test & ~is_left_out
    for rows, where in ((is_train, "the training folds"), (is_known, f"{role} {fold}")):
        if missing_classes := sorted(set(classes) - set(clips["category"][rows])):
            raise DatasetError(
                f"class {missing_classes[0]!r} has no clip in {where}; choose another train.fold or add clips of the "
                "class"
            )
    return np.flatnonzero(is_train), np.flatnonzero(is_known)


def _check_roles(
    existing: Collection[int], fold: int, hold_out: Collection[int], calibration_fold: int | None, role: str
) -> None:
    """Check that the folds exist and have one role each; `role` is that of `fold`."""
    wanted = (fold, *hold_out, *(() if calibration_fold is None else (calibration_fold,)))
    if missing := [number for number in wanted if number not in existing]:
        raise DatasetError(
            f"fold {missing[0]} does not exist; choose from the folds of the data set: {', '.join(map(str, existing))}"
        )
    if fold in hold_out:
        raise DatasetError(
            f"fold {fold} is in train.hold_out, so it cannot be the test fold; choose another train.fold"
        )
    if calibration_fold in (fold, *hold_out):
        other_role = f"the {role}" if calibration_fold == fold else "in train.hold_out"
        raise DatasetError(
            f"train.calibration_fold: fold {calibration_fold} is {other_role}, and nothing may be fitted on it; choose "
            "another fold"
        )
