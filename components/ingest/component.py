"""The step's face to Kubeflow Pipelines."""

from kfp import dsl

from mlops.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def ingest(
    source: str,
    settings: dict,
    dataset: dsl.Output[dsl.Dataset],
    report: dsl.Output[dsl.HTML],
    statistics: dsl.Output[dsl.Metrics],
):
    """Clips, checked against the contract, with their table and a report."""
    import shutil
    from pathlib import Path

    from components.ingest import step
    from components.ingest.settings import IngestSettings

    parsed = IngestSettings.parse(settings, "pipeline parameter ingest")
    output = Path(dataset.path)
    try:
        summary = step.ingest(source, parsed, output)
    except step.IngestError:
        if step.rejected(output).exists():
            shutil.copyfile(step.rejected(output), report.path)
        raise
    shutil.copyfile(output / "report.html", report.path)
    dataset.metadata.update(digest=summary.digest, clips=summary.clips, classes=summary.classes)
    for name in ("clips", "classes", "seconds", "quarantined", "warnings"):
        statistics.log_metric(name, getattr(summary, name))
