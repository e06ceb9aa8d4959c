"""Folder of the step train: the classifier, `run.json`, `clips.csv` with the split, `history.csv` and `curves/`."""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from pydantic import Field

from audiocnn.classifier import METADATA_FILE, Classifier
from audiocnn.strict_model import StrictModel
from mlops.artifacts.base_folder import Folder, read_table

RUN = "run.json"
SPLITS = "clips.csv"
HISTORY = "history.csv"
SPLIT_COLUMNS = {"filename": str, "md5": str, "fold": int, "split": str}
HISTORY_COLUMNS = {
    "epoch": int,
    "lr": float,
    "train_loss": float,
    "train_accuracy": float,
    "test_loss": float,
    "test_accuracy": float,
}
TRAIN, TEST, CALIBRATION, HELD_OUT = "train", "test", "calibration", "held out"
Rows = npt.NDArray[np.int64] | Sequence[int]


class RunRecord(StrictModel):
    """Content of `run.json`.

    Attributes:
        run_id: id of the MLflow run of the training.
        checkpoint: name of the training's checkpoint in the checkpoint store, empty if there is none.
    """

    run_id: Annotated[str, Field(min_length=1)]
    checkpoint: str = ""


class ModelFolder(Folder):
    """A trained classifier, and the clips that it was trained on."""

    step = "train"
    marker = METADATA_FILE
    logged = (HISTORY, SPLITS)  # files that the step train adds to its MLflow run

    def classifier(self, device: str | torch.device = "cpu") -> Classifier:
        return Classifier.load(self.path, device)

    def run(self) -> RunRecord:
        return self.read_record(RUN, RunRecord)

    def history(self) -> pd.DataFrame:
        """Read the metrics of the training, one row per epoch. Test columns are NaN in epochs without an evaluation."""
        return read_table(self.path / HISTORY, HISTORY_COLUMNS, self.step)

    def splits(self) -> pd.DataFrame:
        """Read the split, one row per clip: filename, md5, fold, split (train, test, calibration or held out)."""
        return read_table(self.path / SPLITS, SPLIT_COLUMNS, self.step)

    def training_clips(self) -> frozenset[str]:
        """Return the MD5 digests of the clips that the model was trained or calibrated on."""
        splits = self.splits()
        return frozenset(splits["md5"][splits["split"].isin([TRAIN, CALIBRATION])])

    def test_clips(self) -> frozenset[str]:
        """Return the filenames of the clips of the test fold."""
        splits = self.splits()
        return frozenset(splits["filename"][splits["split"] == TEST])

    def write(
        self,
        classifier: Classifier,
        history: pd.DataFrame,
        clips: pd.DataFrame,
        rows: Sequence[Rows],
        run: RunRecord,
    ) -> None:
        """Write all files except the curves.

        Args:
            history: one row per epoch, columns HISTORY_COLUMNS.
            rows: positions in `clips` of the training clips, the test clips and, if the model is calibrated, those of
                the calibration fold; all others are held out.
        """
        classifier.save(self.path)
        history.to_csv(self.path / HISTORY, index=False)
        splits = clips[["filename", "md5", "fold"]].assign(split=HELD_OUT)
        for name, part in zip((TRAIN, TEST, CALIBRATION), rows, strict=False):
            splits.iloc[part, splits.columns.get_loc("split")] = name
        splits.to_csv(self.path / SPLITS, index=False)
        self.write_record(RUN, run)
