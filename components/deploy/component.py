"""KFP component of the step deploy."""

from kfp import dsl

from mlops.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def deploy(
    dataset: dsl.Input[dsl.Dataset],
    name: str,
    settings: dict,
    deployment: dsl.Output[dsl.Artifact],
):
    """Make TorchServe serve the champion of the registry. Never cached, because it depends on the registry's state."""
    from pathlib import Path

    from components.deploy import step
    from components.deploy.settings import DeploySettings

    parsed = DeploySettings.parse(settings, "pipeline parameter deploy")
    record = step.deploy(name, Path(dataset.path), parsed, Path(deployment.path))
    deployment.metadata.update({"name": record.name, "version": record.version, "model_url": record.model_url})
