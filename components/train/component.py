"""KFP component of the step train."""

from kfp import dsl

from mlops.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def train(
    spectrograms: dsl.Input[dsl.Dataset],
    recipe: str,
    settings: dict,
    checkpoints: str,
    code_digest: str,
    model: dsl.Output[dsl.Model],
    curves: dsl.Output[dsl.HTML],
    trainjob: dict = {},  # noqa: B006  KFP copies it
    parent: str = "",
    trial: str = "",
):
    """Train a classifier on all folds except the test fold, here or on the nodes that `trainjob` requests.

    `code_digest` is part of the cache key: KFP's own key ignores the code that a component imports. `parent` and
    `trial` are the fields parent_run and trial of TrainingRequest.
    """
    from pathlib import Path

    from audiocnn.config import TrainSettings
    from components.train import report, step
    from components.train.settings import TrainJobSettings
    from mlops.artifacts import TrainingRequest

    parsed = TrainSettings.parse(settings, "pipeline parameter train")
    node_settings = TrainJobSettings.parse(trainjob, "pipeline parameter trainjob") if trainjob else TrainJobSettings()
    request = TrainingRequest(recipe=recipe, settings=parsed, trial=trial, parent_run=parent)
    if node_settings.nodes > 1:
        from components.train import nodes  # Kubeflow's SDK, which no other training needs

        nodes.train(Path(spectrograms.path), request, node_settings, Path(model.path), checkpoints, code_digest)
    else:
        step.train(Path(spectrograms.path), request, Path(model.path), checkpoints)
    Path(curves.path).write_text(report.curves_page(Path(model.path), parsed), encoding="utf-8")
    model.metadata.update({"framework": "pytorch", "fold": parsed.fold, "recipe": recipe})
