"""The classifier as an MLflow model: sound files in, classes and probabilities out.

MLflow stores this file with the model and runs it to load the model ("models from code"); nothing is pickled.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext

from audiocnn.analysis import analyze
from audiocnn.classifier import Classifier
from audiocnn.recordings import label_of, pool


class SoundClassifier(PythonModel):  # type: ignore[misc]  # mypy does not read mlflow
    """Classifies the recordings, of any length, in the binary column `audio`: sound files that libsndfile reads."""

    def load_context(self, context: PythonModelContext) -> None:
        self._classifier = Classifier.load(Path(context.artifacts["model"]))

    def predict(self, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:  # noqa: ARG002
        """Return a row per sound file: `class`, `label`, `confidence` and a column `p:CLASS` per class.

        `class` is the most probable class; `label` is the same or, if it is below its threshold, "unknown".

        Raises:
            AudioError: a file cannot be decoded or is silent; no row is returned.
        """
        recordings = [analyze(self._classifier, bytes(content))[0] for content in model_input["audio"]]
        probabilities = np.stack([pool(recording.probabilities) for recording in recordings]).astype(np.float64)
        classes = self._classifier.classes
        columns = {f"p:{name}": probabilities[:, index] for index, name in enumerate(classes)}
        predicted = [classes[index] for index in probabilities.argmax(axis=1)]
        labels = [label_of(row, classes, self._classifier.thresholds) for row in probabilities]
        best = {"class": predicted, "label": labels, "confidence": probabilities.max(axis=1)}
        return pd.DataFrame({**best, **columns})


set_model(SoundClassifier())
