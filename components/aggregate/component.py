"""The step's face to Kubeflow Pipelines."""

from typing import List  # noqa: UP035  KFP knows a list of artifacts by this name alone

from kfp import dsl

from mlops.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def aggregate(
    plan: list,
    models: dsl.Input[List[dsl.Model]],  # noqa: UP006
    evaluations: dsl.Input[List[dsl.Artifact]],  # noqa: UP006
    settings: dict,
    checkpoints: str,
    pooled: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    confusion: dsl.Output[dsl.ClassificationMetrics],
    report: dsl.Output[dsl.HTML],
):
    """The predictions of all folds and seeds put together, with intervals and a report; then the trainings' checkpoints
    are removed."""
    import shutil
    from pathlib import Path

    from audiocnn.config import EvaluateSettings
    from components.aggregate import step

    parsed = EvaluateSettings.parse(settings, "pipeline parameter evaluate")
    trained, scored = ([Path(each.path) for each in given] for given in (models, evaluations))
    result = step.aggregate(plan, trained, scored, parsed, Path(pooled.path), checkpoints)
    for name, value in result.metrics.items():
        if isinstance(value, (int, float)):
            metrics.log_metric(name, value)
    confusion.log_confusion_matrix(list(result.classes), result.best.scores.confusion.tolist())
    shutil.copyfile(Path(pooled.path) / "report.html", report.path)
