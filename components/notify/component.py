"""KFP component of the failure notice."""

from kfp import dsl

from mlops.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def notify(status: dsl.PipelineTaskFinalStatus, recipe: str, overrides: dict, kfp_run: str, run_name: str):
    """Report a failed run to the webhook of the secret audiocnn-notify, if there is one. Never fails.

    `kfp_run` and `run_name` are the id and the name of the Kubeflow run.
    """
    from components.notify.step import notify

    notify(status.state, status.error_message or "", recipe, overrides, kfp_run, run_name)
