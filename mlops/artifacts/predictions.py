"""Predictions of a classifier on labeled clips, and the file `predictions.csv`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import torch

from audiocnn.classifier import Classifier
from audiocnn.data.batches import Rows, batches
from audiocnn.data.spectrogram_set import SpectrogramSet
from audiocnn.evaluation import Scores, score
from audiocnn.intervals import FloatArray, IntArray
from mlops.artifacts.base_folder import ArtifactError, read_table

FILE = "predictions.csv"
PREFIX = "p:"  # of the columns with the classes' probabilities
COLUMNS = {
    "filename": str,
    "md5": str,
    "fold": int,
    "category": str,
    "src_file": str,
    "predicted": str,
    "correct": int,
    "confidence": float,
}
DIGITS = 6  # of the probabilities in the file


@dataclass(frozen=True)
class Predictions:
    """One row per clip, with one probability per class.

    The columns before them are filename, md5, fold, category, src_file (the source recording), predicted, correct (0
    or 1) and confidence. Tables of several trainings have further columns in front that tell the trainings apart.
    """

    table: pd.DataFrame

    @classmethod
    def of(cls, clips: pd.DataFrame, probabilities: FloatArray, classes: Sequence[str]) -> Self:
        """Create predictions from a classifier's outputs.

        Args:
            clips: the clip table, with the columns filename, md5, fold, category and src_file.
            probabilities: shape (clips, n_classes).
            classes: names in the order of the columns of `probabilities`.
        """
        names = np.array(classes)
        predicted = names[probabilities.argmax(axis=1)]
        table = clips[["filename", "md5", "fold", "category", "src_file"]].reset_index(drop=True)
        table = table.assign(
            predicted=predicted,
            correct=(predicted == table["category"].to_numpy()).astype(int),
            confidence=probabilities.max(axis=1),
        )
        columns = [f"{PREFIX}{name}" for name in classes]
        return cls(pd.concat([table, pd.DataFrame(probabilities, columns=columns)], axis=1))

    @classmethod
    def predict(cls, classifier: Classifier, data: SpectrogramSet, rows: Rows, batch_size: int) -> Self:
        """Classify the clips in some rows of a set of spectrograms, on the classifier's device."""
        device = next(classifier.parameters()).device
        clips = batches(data, rows, batch_size, device).in_order()
        parts = [classifier.classify_spectrograms(spectrograms).cpu() for spectrograms, _ in clips]
        probabilities = torch.cat([torch.empty(0, len(classifier.classes)), *parts]).double().numpy()
        return cls.of(data.clips.iloc[rows], probabilities, classifier.classes)

    @classmethod
    def concat(cls, parts: Sequence["Predictions"]) -> Self:
        return cls(pd.concat([part.table for part in parts], ignore_index=True))

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the network's outputs."""
        return tuple(column.removeprefix(PREFIX) for column in self.table if column.startswith(PREFIX))

    def probabilities(self) -> FloatArray:
        """Return the probabilities, shape (clips, n_classes)."""
        values: FloatArray = self.table[[f"{PREFIX}{name}" for name in self.classes]].to_numpy(np.float64, copy=True)
        return values

    def labels(self) -> IntArray:
        """Return the index of the true class of every clip, shape (clips,)."""
        labels: IntArray = pd.Index(self.classes).get_indexer(self.table["category"]).astype(np.int64)
        return labels

    def scores(self, confidence: float) -> Scores:
        """Return the metrics with intervals of this confidence level."""
        return score(self.probabilities(), self.labels(), self.table["src_file"], confidence)

    def probability_of(self, row: int, name: str) -> float:
        return float(self.table[f"{PREFIX}{name}"].iloc[row])

    def with_classes(self, classes: Sequence[str]) -> "Predictions":
        """Return a copy in which the probabilities of the same classes have another order."""
        others = [column for column in self.table if not column.startswith(PREFIX)]
        return Predictions(self.table[[*others, *(f"{PREFIX}{name}" for name in classes)]])

    def with_columns(self, **values: Any) -> "Predictions":
        """Return a copy with further columns in front, each with the same value in all rows."""
        return Predictions(pd.concat([pd.DataFrame(values, index=self.table.index), self.table], axis=1))

    @classmethod
    def read(cls, path: Path, step: str) -> Self:
        """Read a CSV file.

        Args:
            step: the step that writes the file, for error messages.
        Raises:
            ArtifactError: the file is missing or invalid.
        """
        table = read_table(path, COLUMNS, step)
        predictions = cls(table)
        classes = predictions.classes
        try:
            probabilities = predictions.probabilities()
        except ValueError:
            probabilities = np.array([np.nan])
        if not np.isfinite(probabilities).all():
            raise ArtifactError(f"{path}: a probability is missing or not finite; run the step {step} again")
        if unknown := sorted({*table["category"], *table["predicted"]} - {*classes}):
            raise ArtifactError(f"{path}: no probabilities of the class {unknown[0]!r}; run the step {step} again")
        # Rounding may make two classes equal; the predicted class remains the most probable one.
        for name in classes:
            table.loc[table["predicted"] == name, f"{PREFIX}{name}"] += 1e-9
        return predictions

    def write(self, path: Path) -> None:
        self.table.to_csv(path, index=False, float_format=f"%.{DIGITS}f")
