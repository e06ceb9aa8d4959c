"""Collect the results of planned trainings, and check that they are complete and belong together."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from audiocnn.config import SpectrogramSettings, TrainSettings
from audiocnn.errors import AudioCNNError
from mlops.artifacts import EvaluationFolder, ModelFolder, Predictions, RunRecord, TrainingRequest

REMEDY = "run the step evaluate on this model"


class AggregateError(AudioCNNError):
    """Results of trainings that cannot be aggregated."""


@dataclass(frozen=True)
class TrainingResult:
    """A planned training, its MLflow run, the digest of its data set, and its predictions on its test fold."""

    request: TrainingRequest
    run: RunRecord
    digest: str
    spectrograms: SpectrogramSettings
    predictions: Predictions


def collect_results(
    plan: Sequence[TrainingRequest], models: Sequence[Path], evaluations: Sequence[Path]
) -> list[TrainingResult]:
    """Return the results of the planned trainings, in the order of the plan; for the arguments see `aggregate`.

    Raises:
        AggregateError: a training is missing, duplicated or not planned; an evaluation belongs to another model, or its
            clips are not those of the fold; or the data sets of the trainings differ.
    """
    if len(models) != len(evaluations):
        raise AggregateError(
            f"{len(models)} models and {len(evaluations)} evaluations: expected one of each per training; "
            "pass each folder once"
        )
    requests = {request.settings: request for request in plan}
    results = [_read(*folders, requests) for folders in zip(models, evaluations, strict=True)]
    counts = Counter(result.request.settings for result in results)
    for result in results:
        if (count := counts[result.request.settings]) > 1:
            raise AggregateError(
                f"{result.request.name}: there are {count} results of this training; pass each folder once"
            )
    if missing := [request.name for request in plan if request.settings not in counts]:
        raise AggregateError(
            f"{len(missing)} of {len(plan)} planned trainings have no result, the first is {missing[0]}; run it and "
            "aggregate again"
        )
    if len({result.digest for result in results}) > 1:
        raise AggregateError("the models were trained on different data sets; aggregate trainings on one data set")
    order = list(requests)
    return sorted(results, key=lambda result: order.index(result.request.settings))


def _read(model: Path, evaluation: Path, requests: Mapping[TrainSettings, TrainingRequest]) -> TrainingResult:
    trained, evaluated = ModelFolder(model), EvaluationFolder(evaluation)
    classifier = trained.classifier()
    settings = TrainSettings.parse(classifier.provenance["train"], f"{model}: train")
    if settings not in requests:
        raise AggregateError(
            f"{model}: the plan has no training with these settings (fold {settings.fold}, seed {settings.seed}); use "
            "the folders of this plan"
        )
    request, predictions = requests[settings], evaluated.predictions()
    if evaluated.weights_sha256() != classifier.weights_sha256:
        raise AggregateError(f"{request.name}: {evaluation} is the evaluation of another model than {model}; {REMEDY}")
    if predictions.classes != classifier.classes:
        raise AggregateError(f"{request.name}: {evaluation} and {model} have different classes; {REMEDY}")
    _check_clips(request, predictions, trained.test_clips())
    digest = classifier.provenance["dataset"]["digest"]
    return TrainingResult(request, trained.run(), digest, classifier.settings, predictions)


def _check_clips(request: TrainingRequest, predictions: Predictions, test_clips: frozenset[str]) -> None:
    training, names = request.name, predictions.table["filename"]
    if (duplicated := names[names.duplicated()]).any():
        raise AggregateError(f"{training}: the clip {duplicated.iloc[0]} has two predictions; {REMEDY}")
    for clips, problem in (
        (test_clips - {*names}, "have no prediction"),
        ({*names} - test_clips, f"have a prediction but are not in the {request.settings.fold_role}"),
    ):
        if clips:
            raise AggregateError(f"{training}: {len(clips)} clips {problem}, the first is {min(clips)}; {REMEDY}")
