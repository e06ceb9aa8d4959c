"""KFP component of the step register."""

from kfp import dsl

from mlops.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def register(
    model: dsl.Input[dsl.Model],
    evaluation: dsl.Input[dsl.Artifact],
    dataset: dsl.Input[dsl.Dataset],
    recipe: str,
    overrides: dict,
    model_name: str,
    registration: dsl.Output[dsl.Artifact],
    card: dsl.Output[dsl.Markdown],
) -> str:
    """Register a model version under the alias challenger, with its model card; return the model's name."""
    import shutil
    from pathlib import Path

    from components.register import step
    from mlops.artifacts import RegistrationFolder
    from mlops.register_settings import RegisterSettings
    from mlops.run_parameters import resolve_parameters

    settings = resolve_parameters(recipe, overrides, model_name=model_name).block("register", RegisterSettings)
    version = step.register(
        Path(model.path), Path(evaluation.path), Path(dataset.path), settings, Path(registration.path)
    )
    shutil.copyfile(RegistrationFolder(Path(registration.path)).page, card.path)
    registration.metadata.update({"name": version.name, "version": version.number})
    return version.name
