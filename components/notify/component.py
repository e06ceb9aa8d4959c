"""KFP component of the failure notification."""

from kfp import dsl

from mlops.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def notify(
    status: dsl.PipelineTaskFinalStatus, recipe: str, overrides: dict, titles: dict, kfp_run: str, run_name: str
):
    """Report a failed run to the webhook of the secret audiocnn-notify, if there is one. Never fails.

    `titles` are those of the tasks, by their names in the graph; `kfp_run` and `run_name` the id and the name of the
    Kubeflow run.
    """
    from components.notify.step import FinishedRun, notify

    run = FinishedRun(id=kfp_run, name=run_name, state=status.state, message=status.error_message or "")
    notify(run, titles, recipe, overrides)
