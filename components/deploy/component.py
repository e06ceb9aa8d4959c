"""KFP component of the step deploy."""

from kfp import dsl

from mlops.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def deploy(
    dataset: dsl.Input[dsl.Dataset],
    name: str,
    recipe: str,
    overrides: dict,
    deployment: dsl.Output[dsl.Artifact],
):
    """Make TorchServe serve the champion of the registry."""
    from pathlib import Path

    from components.deploy import step
    from components.deploy.settings import DeploySettings
    from mlops.run_parameters import resolve_parameters

    settings = resolve_parameters(recipe, overrides).block("deploy", DeploySettings)
    record = step.deploy(name, Path(dataset.path), settings, Path(deployment.path))
    deployment.metadata.update({"name": record.name, "version": record.version, "model_url": record.model_url})
