"""The step's face to Kubeflow Pipelines."""

from kfp import dsl

from mlops.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def register(
    model: dsl.Input[dsl.Model],
    evaluation: dsl.Input[dsl.Artifact],
    dataset: dsl.Input[dsl.Dataset],
    settings: dict,
    registration: dsl.Output[dsl.Artifact],
    card: dsl.Output[dsl.Markdown],
) -> str:
    """A new version in the model registry under the alias challenger, with its model card; returns the model's name."""
    import shutil
    from pathlib import Path

    from components.register import step
    from mlops.tracking.settings import RegisterSettings

    parsed = RegisterSettings.parse(settings, "pipeline parameter register")
    version = step.register(
        Path(model.path), Path(evaluation.path), Path(dataset.path), parsed, Path(registration.path)
    )
    shutil.copyfile(Path(registration.path) / "card.md", card.path)
    registration.metadata.update({"name": version.name, "version": version.number})
    return version.name
