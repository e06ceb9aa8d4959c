"""The models and evaluations of planned trainings, read and checked: every one there, once, whole, of the same data."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from audiocnn.classifier import Classifier
from audiocnn.config import SpectrogramSettings, TrainSettings
from audiocnn.errors import AudioCNNError
from audiocnn.evaluation import FloatArray, IntArray
from mlops.artifacts import TrainingRequest

PROBABILITY = "p:"  # begins the columns of predictions.csv that hold the classes' probabilities
TIE = 1e-9


class AggregateError(AudioCNNError):
    """Trainings whose results cannot be put together."""


@dataclass(frozen=True)
class Result:
    """What one training gave: its settings, the MLflow run, and one row a clip of its fold in `predictions`.

    `front_end`: the settings of the spectrograms that it learnt from.
    """

    trial: str
    settings: TrainSettings
    run_id: str
    digest: str
    predictions: pd.DataFrame
    front_end: SpectrogramSettings | None = None
    recipe: str = ""

    @property
    def name(self) -> str:
        """How people tell it from the others."""
        return f"{f'{self.trial}, ' if self.trial else ''}fold {self.settings.fold}, seed {self.settings.seed}"


def gather(plan: Sequence[Mapping[str, Any]], models: Sequence[Path], evaluations: Sequence[Path]) -> list[Result]:
    """The results of the planned trainings, in the order of the plan.

    Args:
        plan: what the step plan returned.
        models, evaluations: folders of the steps train and evaluate; those at one place belong together.
    Raises:
        AggregateError: a training is missing, comes twice, was not planned, or is not whole.
        ModelError: a model cannot be read.
    """
    if len(models) != len(evaluations):
        raise AggregateError(f"{len(models)} models and {len(evaluations)} evaluations: each needs the other")
    requests = [TrainingRequest.parse(each, "plan") for each in plan]
    trials = {request.settings: request.trial for request in requests}
    found = [_read(model, evaluation, trials) for model, evaluation in zip(models, evaluations, strict=True)]
    times = Counter(result.settings for result in found)
    for result in found:
        if times[result.settings] > 1:
            raise AggregateError(f"{result.name}: its predictions are there {times[result.settings]} times")
    order = list(trials)
    if missing := [settings for settings in order if settings not in times]:
        lost = Result(trials[missing[0]], missing[0], "", "", pd.DataFrame()).name
        raise AggregateError(f"{len(missing)} of {len(order)} planned trainings left no predictions: {lost} the first")
    if len({result.digest for result in found}) > 1:
        raise AggregateError("the models were trained on different data sets; what they reached cannot be put together")
    return sorted(found, key=lambda result: order.index(result.settings))


def classes_of(predictions: pd.DataFrame) -> tuple[str, ...]:
    """Class names in the order of the network's outputs."""
    return tuple(column.removeprefix(PROBABILITY) for column in predictions if column.startswith(PROBABILITY))


def outputs(predictions: pd.DataFrame) -> tuple[FloatArray, IntArray]:
    """Probabilities (clips, n_classes) and labels (clips,), as audiocnn.evaluation takes them."""
    classes = classes_of(predictions)
    index = {name: position for position, name in enumerate(classes)}
    probabilities: FloatArray = predictions[[f"{PROBABILITY}{name}" for name in classes]].to_numpy(np.float64, copy=True)
    said: npt.NDArray[np.int64] = predictions["predicted"].map(index).to_numpy(np.int64)
    probabilities[np.arange(len(said)), said] += TIE  # the file's six digits may tie two classes; one of them was said
    return probabilities, predictions["category"].map(index).to_numpy(np.int64)


def _read(model: Path, evaluation: Path, trials: Mapping[TrainSettings, str]) -> Result:
    classifier = Classifier.load(model)
    settings = TrainSettings.parse(classifier.provenance["train"], f"{model}: train")
    unplanned = Result("", settings, "", "", pd.DataFrame()).name
    if settings not in trials:
        raise AggregateError(f"{model}: {unplanned}: a training with these settings is not in the plan")
    try:
        predictions = pd.read_csv(evaluation / "predictions.csv", dtype={"filename": str}, keep_default_na=False)
        metrics = json.loads((evaluation / "metrics.json").read_text(encoding="utf-8"))
        split = pd.read_csv(model / "clips.csv", dtype={"filename": str}, keep_default_na=False)
        run_id = json.loads((model / "run.json").read_text(encoding="utf-8"))["run_id"]
    except (OSError, ValueError, KeyError) as error:
        raise AggregateError(f"{evaluation}: no evaluation of {model} can be read there: {error}") from error
    digest = classifier.provenance["dataset"]["digest"]
    result = Result(
        trials[settings],
        settings,
        str(run_id),
        digest,
        predictions,
        classifier.settings,
        classifier.provenance["recipe"],
    )
    if metrics["model_sha256"] != classifier.weights_sha256:
        raise AggregateError(f"{result.name}: {evaluation} holds the predictions of another model than {model}")
    if classes_of(predictions) != classifier.classes:
        raise AggregateError(f"{result.name}: the classes in {evaluation} are not those of the model")
    _check_clips(result, split["filename"][split["split"] == "test"])
    return result


def _check_clips(result: Result, tested: "pd.Series[str]") -> None:
    """Every clip of the test fold once, and no other."""
    names = result.predictions["filename"]
    if names.duplicated().any():
        raise AggregateError(f"{result.name}: {names[names.duplicated()].iloc[0]} is predicted twice")
    if wrong := set(names) ^ set(tested):
        has = "no prediction" if min(wrong) in set(tested) else "a prediction, and is not of that fold"
        raise AggregateError(f"{result.name}: {len(wrong)} clips are not as they should be: {min(wrong)} has {has}")
