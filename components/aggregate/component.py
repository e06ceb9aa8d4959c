"""KFP component of the step aggregate."""

from typing import List  # noqa: UP035  KFP requires typing.List for lists of artifacts

from kfp import dsl

from mlops.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def aggregate(
    plan: list,
    models: dsl.Input[List[dsl.Model]],  # noqa: UP006
    evaluations: dsl.Input[List[dsl.Artifact]],  # noqa: UP006
    recipe: str,
    overrides: dict,
    aggregate: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    confusion: dsl.Output[dsl.ClassificationMetrics],
    report: dsl.Output[dsl.HTML],
):
    """Aggregate the predictions of all folds, seeds and trials, and delete the checkpoints of the trainings."""
    import shutil
    from pathlib import Path

    from audiocnn.config import EvaluateSettings
    from audiocnn.plots import readable_confusion
    from components.aggregate import step
    from mlops.artifacts import parse_plan
    from mlops.run_parameters import resolve_parameters
    from mlops.storage_settings import StorageSettings

    resolved = resolve_parameters(recipe, overrides)
    settings = resolved.block("evaluate", EvaluateSettings)
    checkpoints = resolved.block("storage", StorageSettings).checkpoints
    requests = parse_plan(plan, "pipeline parameter plan")
    trained, evaluated = ([Path(each.path) for each in given] for given in (models, evaluations))
    result = step.aggregate(requests, trained, evaluated, settings, Path(aggregate.path), checkpoints)
    for name, value in result.metrics.numbers().items():
        metrics.log_metric(name, value)
    matrix, names = readable_confusion(result.best.scores.confusion, result.best.predictions.classes)
    confusion.log_confusion_matrix(names, matrix.tolist())
    shutil.copyfile(Path(aggregate.path) / "report.html", report.path)
