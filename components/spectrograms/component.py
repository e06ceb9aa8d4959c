"""The step's face to Kubeflow Pipelines."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def spectrograms(
    dataset: dsl.Input[dsl.Dataset],
    settings: dict,
    cache: str,
    spectrograms: dsl.Output[dsl.Dataset],
    statistics: dsl.Output[dsl.Metrics],
):
    """Log-mel spectrograms of every clip, from the shared cache where it has them."""
    from pathlib import Path

    from audiocnn.params import parse
    from audiocnn.settings import SpectrogramSettings
    from components.spectrograms import step

    parsed = parse(SpectrogramSettings, settings, "pipeline parameter spectrograms")
    summary = step.spectrograms(Path(dataset.path), parsed, Path(spectrograms.path), Path(cache))
    spectrograms.metadata.update(dataset.metadata)
    statistics.log_metric("clips", summary.clips)
    statistics.log_metric("computed", summary.computed)
    statistics.log_metric("from cache", summary.clips - summary.computed)
