"""The step's face to Kubeflow Pipelines."""

from kfp import dsl

from mlops.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def deploy(
    dataset: dsl.Input[dsl.Dataset],
    name: str,
    settings: dict,
    deployment: dsl.Output[dsl.Artifact],
):
    """The champion of the registry becomes what TorchServe serves. Never cached: its input is the registry's state."""
    from pathlib import Path

    from components.deploy import step
    from components.deploy.settings import DeploySettings

    parsed = DeploySettings.parse(settings, "pipeline parameter deploy")
    record = step.deploy(name, Path(dataset.path), parsed, Path(deployment.path))
    deployment.metadata.update({key: record[key] for key in ("name", "version", "model_url")})
