"""KFP component of the step train."""

from kfp import dsl

from mlops.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def train(
    spectrograms: dsl.Input[dsl.Dataset],
    recipe: str,
    overrides: dict,
    nodes: int,
    gpus_per_node: int,
    model: dsl.Output[dsl.Model],
    curves: dsl.Output[dsl.HTML],
    fold: int = 0,
    seed: int = 0,
    planned: dict = {},  # noqa: B006  KFP copies it
    kfp_run: str = "",
):
    """Train a classifier on all folds except the test fold, here or on several GPUs and nodes.

    `planned` is a TrainingRequest of the step plan_trials; without it, `fold` and `seed` are those of the training.
    `kfp_run` is the id of the Kubeflow run.
    """
    from pathlib import Path

    from audiocnn.config import SpectrogramSettings, TrainSettings
    from audiocnn.data.spectrogram_set import check_front_end
    from components.train import report, step
    from components.train.settings import ResourceSettings
    from mlops.artifacts import TrainingRequest
    from mlops.cluster_settings import KubeflowSettings
    from mlops.kubeflow_run import set_kubeflow_run
    from mlops.run_parameters import resolve_parameters
    from mlops.storage_settings import StorageSettings

    resolved = resolve_parameters(recipe, overrides, fold=fold, seed=seed, nodes=nodes, gpus_per_node=gpus_per_node)
    resources = resolved.block("resources", ResourceSettings)
    checkpoints = resolved.block("storage", StorageSettings).checkpoints
    set_kubeflow_run(kfp_run, resolved.block("kubeflow", KubeflowSettings).ui)
    if planned:
        request = TrainingRequest.parse(planned, "pipeline parameter planned")
    else:
        request = TrainingRequest(recipe=recipe, settings=resolved.block("train", TrainSettings))
    check_front_end(Path(spectrograms.path), resolved.block("spectrograms", SpectrogramSettings))
    if resources.needs_trainjob:
        from components.train import nodes as cluster  # Kubeflow's SDK, which no other training needs

        cluster.train(Path(spectrograms.path), request, resources, Path(model.path), checkpoints)
    else:
        step.train(Path(spectrograms.path), request, Path(model.path), checkpoints)
    Path(curves.path).write_text(report.curves_page(Path(model.path), request.settings), encoding="utf-8")
    model.metadata.update({"framework": "pytorch", "fold": request.settings.fold, "recipe": request.recipe})
