"""The step's faces to Kubeflow Pipelines: shares of the work side by side, and the set put together."""

from kfp import dsl

from mlops.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def spectrogram_shard(
    dataset: dsl.Input[dsl.Dataset], settings: dict, cache: str, shard: str, statistics: dsl.Output[dsl.Metrics]
) -> int:
    """One share of the clips, "2/8" being the second of eight, into the cache; how many clips it has.

    Not how many it computed: that differs from run to run, and what is put together from them does not.
    """
    from pathlib import Path

    from audiocnn.config import SpectrogramSettings
    from components.spectrograms import step

    parsed = SpectrogramSettings.parse(settings, "pipeline parameter spectrograms")
    summary = step.fill(Path(dataset.path), parsed, cache, step.Shard.parse(shard))
    for name, count in summary.statistics.items():
        statistics.log_metric(name, count)
    return summary.clips


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def spectrograms(
    dataset: dsl.Input[dsl.Dataset],
    settings: dict,
    cache: str,
    shards: list,
    spectrograms: dsl.Output[dsl.Dataset],
    statistics: dsl.Output[dsl.Metrics],
):
    """Log-mel spectrograms of every clip, from the shared cache; what is missing there is computed here."""
    from pathlib import Path

    from audiocnn.config import SpectrogramSettings
    from components.spectrograms import step

    parsed = SpectrogramSettings.parse(settings, "pipeline parameter spectrograms")
    summary = step.spectrograms(Path(dataset.path), parsed, Path(spectrograms.path), cache)
    spectrograms.metadata.update(dataset.metadata)
    for name, count in summary.statistics.items():
        statistics.log_metric(name, count)
