"""The classifier as an MLflow model: sound files in, classes and probabilities out.

MLflow stores this file with the model and runs it to load the model ("models from code"); nothing is pickled.
"""

from pathlib import Path
from typing import Any

import pandas as pd
import torch
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext

from audiocnn import audio
from audiocnn.classifier import Classifier


class SoundClassifier(PythonModel):  # type: ignore[misc]  # mypy does not read mlflow
    """Classifies the sound files in the binary column `audio`, in any format that libsndfile reads."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the classifier."""
        self._classifier = Classifier.load(Path(context.artifacts["model"]))

    def predict(self, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:  # noqa: ARG002
        """Return a row per sound file: `class`, `confidence`, and a column `p:CLASS` per class.

        Raises:
            AudioError: a file cannot be decoded; no row is returned.
        """
        clips = [audio.load(bytes(content), self._classifier.settings) for content in model_input["audio"]]
        probabilities = torch.cat([self._classifier.classify(torch.from_numpy(clip)[None]) for clip in clips]).double()
        confidence, predicted = probabilities.max(dim=1)
        classes = self._classifier.classes
        columns = {f"p:{name}": probabilities[:, index].numpy() for index, name in enumerate(classes)}
        return pd.DataFrame(
            {"class": [classes[index] for index in predicted.tolist()], "confidence": confidence.numpy(), **columns}
        )


set_model(SoundClassifier())
