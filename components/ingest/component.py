"""KFP component of the step ingest."""

from kfp import dsl

from mlops.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def ingest(
    source: str,
    recipe: str,
    overrides: dict,
    shards: int,
    dataset: dsl.Output[dsl.Dataset],
    report: dsl.Output[dsl.HTML],
    statistics: dsl.Output[dsl.Metrics],
) -> list:
    """Check a data set and write the clip table, the audio files and a report.

    Returns the shards of the clips, "1/2" and "2/2" if `shards` is 2, for a loop to run over.
    """
    import shutil
    from pathlib import Path

    from audiocnn.config import SpectrogramSettings
    from components.ingest import step
    from components.ingest.settings import IngestSettings
    from mlops.run_parameters import resolve_parameters

    resolved = resolve_parameters(recipe, overrides)
    settings = resolved.block("ingest", IngestSettings)
    # The front end determines what the network is given of a clip, and so whether the clip is silent.
    front_end = resolved.block("spectrograms", SpectrogramSettings)
    output = Path(dataset.path)
    try:
        summary = step.ingest(source, settings, front_end, output)
    except step.IngestError:
        if step.refused_report(output).exists():
            shutil.copyfile(step.refused_report(output), report.path)
        raise
    shutil.copyfile(output / "report.html", report.path)
    dataset.metadata.update(digest=summary.digest, clips=summary.clips, classes=summary.classes)
    for name in ("clips", "classes", "seconds", "quarantined", "warnings"):
        statistics.log_metric(name, getattr(summary, name))
    return [f"{number}/{shards}" for number in range(1, shards + 1)]
