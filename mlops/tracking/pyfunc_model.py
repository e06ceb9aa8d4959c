"""The model as MLflow loads and serves it: a clip's bytes in, class and probabilities out.

MLflow copies this file beside the weights and runs it to load the model ("models from code"), so nothing is pickled.
"""

from pathlib import Path
from typing import Any

import pandas as pd
import torch
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext

from audiocnn import audio
from audiocnn.classifier import Classifier


class Sounds(PythonModel):
    """Answers a table with the binary column `audio`, one sound file a row, in any format that libsndfile reads."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the model folder that lies in the package."""
        self._classifier = Classifier.load(Path(context.artifacts["model"]))

    def predict(self, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:  # noqa: ARG002
        """One row a clip: `class`, `confidence`, and one column `p:<class>` for every class.

        Raises:
            AudioError: a row holds no audio; none of the rows is answered then.
        """
        clips = [audio.load(bytes(content), self._classifier.settings) for content in model_input["audio"]]
        probabilities = torch.cat([self._classifier.classify(torch.from_numpy(clip)[None]) for clip in clips]).double()
        confidence, said = probabilities.max(dim=1)
        classes = self._classifier.classes
        answer = {"class": [classes[index] for index in said.tolist()], "confidence": confidence.numpy()}
        columns = {f"p:{name}": probabilities[:, index].numpy() for index, name in enumerate(classes)}
        return pd.DataFrame({**answer, **columns})


set_model(Sounds())
