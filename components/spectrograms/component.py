"""KFP components of the step spectrograms."""

from kfp import dsl

from mlops.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def spectrogram_shard(
    dataset: dsl.Input[dsl.Dataset], recipe: str, overrides: dict, shard: str, statistics: dsl.Output[dsl.Metrics]
) -> int:
    """Fill the cache with one shard of the clips, for example "2/8"; return its number of clips.

    The number of computed spectrograms is only logged, because it differs between runs with the same result.
    """
    from pathlib import Path

    from audiocnn.config import SpectrogramSettings
    from components.spectrograms import step
    from mlops.run_parameters import resolve_parameters
    from mlops.storage_settings import StorageSettings

    resolved = resolve_parameters(recipe, overrides)
    settings = resolved.block("spectrograms", SpectrogramSettings)
    cache = resolved.block("storage", StorageSettings).cache
    summary = step.fill_cache(Path(dataset.path), settings, cache, step.Shard.parse(shard))
    for name, count in summary.statistics.items():
        statistics.log_metric(name, count)
    return summary.clips


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def spectrograms(
    dataset: dsl.Input[dsl.Dataset],
    recipe: str,
    overrides: dict,
    shards: list,
    spectrograms: dsl.Output[dsl.Dataset],
    statistics: dsl.Output[dsl.Metrics],
):
    """Write the log-mel spectrograms of all clips, from the shared cache where possible."""
    from pathlib import Path

    from audiocnn.config import SpectrogramSettings
    from components.spectrograms import step
    from mlops.run_parameters import resolve_parameters
    from mlops.storage_settings import StorageSettings

    resolved = resolve_parameters(recipe, overrides)
    settings = resolved.block("spectrograms", SpectrogramSettings)
    cache = resolved.block("storage", StorageSettings).cache
    summary = step.spectrograms(Path(dataset.path), settings, Path(spectrograms.path), cache)
    spectrograms.metadata.update(dataset.metadata)
    for name, count in summary.statistics.items():
        statistics.log_metric(name, count)
