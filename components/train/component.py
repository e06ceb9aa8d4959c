"""The step's face to Kubeflow Pipelines."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def train(
    spectrograms: dsl.Input[dsl.Dataset],
    settings: dict,
    checkpoints: str,
    code_digest: str,
    model: dsl.Output[dsl.Model],
    curves: dsl.Output[dsl.HTML],
):
    """A classifier trained on all folds but one. `code_digest` only takes part in the cache key: KFP's own leaves
    out the code that a component imports."""
    from pathlib import Path

    from audiocnn.params import parse
    from audiocnn.settings import TrainSettings
    from components.train import report, step

    parsed = parse(TrainSettings, settings, "pipeline parameter train")
    step.train(Path(spectrograms.path), parsed, Path(model.path), checkpoints)
    Path(curves.path).write_text(report.curves_page(Path(model.path)), encoding="utf-8")
    model.metadata.update({"framework": "pytorch", "fold": parsed.fold, "recipe": parsed.recipe})
