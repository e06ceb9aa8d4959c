"""KFP component of the step ingest."""

from kfp import dsl

from mlops.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def ingest(
    source: str,
    settings: dict,
    spectrograms: dict,
    dataset: dsl.Output[dsl.Dataset],
    report: dsl.Output[dsl.HTML],
    statistics: dsl.Output[dsl.Metrics],
):
    """Check a data set and write the clip table, the audio files and a report.

    The block `spectrograms` determines what the network is given of a clip, and so whether the clip is silent.
    """
    import shutil
    from pathlib import Path

    from audiocnn.config import SpectrogramSettings
    from components.ingest import step
    from components.ingest.settings import IngestSettings

    parsed = IngestSettings.parse(settings, "pipeline parameter ingest")
    front_end = SpectrogramSettings.parse(spectrograms, "pipeline parameter spectrograms")
    output = Path(dataset.path)
    try:
        summary = step.ingest(source, parsed, front_end, output)
    except step.IngestError:
        if step.refused_report(output).exists():
            shutil.copyfile(step.refused_report(output), report.path)
        raise
    shutil.copyfile(output / "report.html", report.path)
    dataset.metadata.update(digest=summary.digest, clips=summary.clips, classes=summary.classes)
    for name in ("clips", "classes", "seconds", "quarantined", "warnings"):
        statistics.log_metric(name, getattr(summary, name))
