"""KFP component of the step evaluate."""

from kfp import dsl

from mlops.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def evaluate(
    model: dsl.Input[dsl.Model],
    spectrograms: dsl.Input[dsl.Dataset],
    dataset: dsl.Input[dsl.Dataset],
    recipe: str,
    overrides: dict,
    evaluation: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    confusion: dsl.Output[dsl.ClassificationMetrics],
    report: dsl.Output[dsl.HTML],
):
    """Evaluate a model on its test fold: metrics with intervals, a confusion matrix and a report."""
    import shutil
    from pathlib import Path

    from audiocnn.config import EvaluateSettings
    from audiocnn.plots import readable_confusion
    from components.evaluate import step
    from mlops.run_parameters import resolve_parameters

    settings = resolve_parameters(recipe, overrides).block("evaluate", EvaluateSettings)
    result = step.evaluate(
        Path(model.path), Path(spectrograms.path), Path(dataset.path), settings, Path(evaluation.path)
    )
    for name, value in result.metrics.numbers().items():
        metrics.log_metric(name, value)
    matrix, names = readable_confusion(result.scores.confusion, result.predictions.classes)
    confusion.log_confusion_matrix(names, matrix.tolist())
    shutil.copyfile(Path(evaluation.path) / "report.html", report.path)
