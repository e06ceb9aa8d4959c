"""The tasks of the KFP graphs, each with its title and its resources.

No task uses KFP's cache: its keys contain the ids of input artifacts, which are new in every run. The content-addressed
spectrogram cache and the training's checkpoints save the work instead.
"""

from typing import Any

from kfp import dsl, kubernetes
from kfp.dsl import PipelineTask

from components.aggregate.component import aggregate
from components.deploy.component import deploy
from components.evaluate.component import evaluate
from components.ingest.component import ingest
from components.notify.component import notify
from components.plan_trials.component import plan_trials
from components.promote.component import promote
from components.register.component import register
from components.spectrograms.component import spectrogram_shard, spectrograms
from components.train.component import train
from components.train.settings import ResourceSettings
from mlops.image import IMAGE, IMAGE_VARIABLE
from pipeline import resources
from pipeline.parameter_checks import check_parameters, check_plan
from pipeline.steps import TITLES

KFP_RUN = dsl.PIPELINE_JOB_ID_PLACEHOLDER


class Tasks:
    """Adds tasks to the graph that is being defined.

    Args:
        recipe, overrides: the pipeline's parameters, which the steps resolve into settings.
        cluster: what the tasks request from the cluster.
    """

    def __init__(self, recipe: Any, overrides: Any, cluster: ResourceSettings) -> None:
        self._parameters = {"recipe": recipe, "overrides": overrides}
        self._cluster = cluster

    def notify(self) -> PipelineTask:
        titles = {name.replace("_", "-"): title for name, title in TITLES.items()}
        names = {"kfp_run": KFP_RUN, "run_name": dsl.PIPELINE_JOB_NAME_PLACEHOLDER}
        notification = self._task("notify", notify(titles=titles, **names, **self._parameters))
        return resources.use_webhook(resources.set_resources(notification))

    def check_parameters(self, **parameters: Any) -> PipelineTask:
        """Add the check of a training's parameters; its output is the number of GPUs of the task train."""
        return resources.set_resources(
            self._task("check_parameters", check_parameters(**parameters, **self._parameters))
        )

    def check_plan(self, **parameters: Any) -> PipelineTask:
        return resources.set_resources(self._task("check_plan", check_plan(**parameters, **self._parameters)))

    def spectrograms(self, checked: PipelineTask, source: Any, shards: Any) -> tuple[PipelineTask, PipelineTask]:
        """Add ingest, the shards of the spectrograms and the task that gathers them.

        Returns:
            the tasks ingest and spectrograms.
        """
        dataset = ingest(source=source, shards=shards, **self._parameters).after(checked)
        resources.use_secrets(self._decoding_task("ingest", dataset), resources.DVC)
        folder = dataset.outputs["dataset"]
        with dsl.ParallelFor(items=dataset.outputs["Output"], name="shards") as shard:
            computed = spectrogram_shard(dataset=folder, shard=shard, **self._parameters)
            self._decoding_task("spectrogram_shard", computed)
        filled = dsl.Collected(computed.outputs["Output"])
        gathered = spectrograms(dataset=folder, shards=filled, **self._parameters)
        return dataset, self._decoding_task("spectrograms", gathered)

    def train(self, spectrograms: PipelineTask, gpus: Any, **arguments: Any) -> PipelineTask:
        """Add a training; its checkpoints outlive the pod, so that a repeated attempt resumes.

        Args:
            gpus: as for `resources.request_training`.
        """
        folder = spectrograms.outputs["spectrograms"]
        model = self._task("train", train(spectrograms=folder, kfp_run=KFP_RUN, **arguments, **self._parameters))
        resources.request_training(model, self._cluster, gpus)
        resources.set_retries(resources.use_mlflow(model), seconds=60)
        # The step records the image and starts nodes with it; `pipeline.compile.set_image` replaces the name here too.
        return resources.mount_state(model).set_env_variable(IMAGE_VARIABLE, IMAGE)

    def evaluate(self, model: PipelineTask, spectrograms: PipelineTask, dataset: PipelineTask) -> PipelineTask:
        evaluation = evaluate(
            model=model.outputs["model"],
            spectrograms=spectrograms.outputs["spectrograms"],
            dataset=dataset.outputs["dataset"],
            **self._parameters,
        )
        return self._mlflow_task("evaluate", evaluation)

    def register(
        self, model: PipelineTask, evaluation: PipelineTask, dataset: PipelineTask, model_name: Any
    ) -> PipelineTask:
        version = register(
            model=model.outputs["model"],
            evaluation=evaluation.outputs["evaluation"],
            dataset=dataset.outputs["dataset"],
            model_name=model_name,
            **self._parameters,
        )
        return resources.use_secrets(self._mlflow_task("register", version), resources.SIGNING)

    def promote(
        self, version: PipelineTask, model: PipelineTask, evaluation: PipelineTask, spectrograms: PipelineTask
    ) -> PipelineTask:
        decision = promote(
            registration=version.outputs["registration"],
            model=model.outputs["model"],
            evaluation=evaluation.outputs["evaluation"],
            spectrograms=spectrograms.outputs["spectrograms"],
            **self._parameters,
        )
        return resources.use_secrets(self._mlflow_task("promote", decision), resources.VERIFYING)

    def deploy(self, version: PipelineTask, dataset: PipelineTask) -> PipelineTask:
        inputs = {"name": version.outputs["Output"], "dataset": dataset.outputs["dataset"]}
        task = self._mlflow_task("deploy", deploy(**inputs, **self._parameters))
        return resources.use_serving(resources.use_secrets(task, resources.VERIFYING))

    def plan(self, spectrograms: PipelineTask, **arguments: Any) -> PipelineTask:
        """Add the plan of a cross-validation or sweep; it starts the MLflow run of all trainings."""
        folder = spectrograms.outputs["spectrograms"]
        plan = plan_trials(spectrograms=folder, kfp_run=KFP_RUN, **arguments, **self._parameters)
        return self._mlflow_task("plan_trials", plan)

    def aggregate(self, **arguments: Any) -> PipelineTask:
        """Add the report on all trainings; it deletes their checkpoints."""
        report = self._mlflow_task("aggregate", aggregate(**arguments, **self._parameters))
        return resources.mount_state(report)

    def _task(self, name: str, task: PipelineTask) -> PipelineTask:
        task.set_caching_options(False).set_display_name(TITLES[name])
        names = list(self._cluster.image_pull_secrets)
        return kubernetes.set_image_pull_secrets(task, names) if names else task

    def _decoding_task(self, name: str, task: PipelineTask) -> PipelineTask:
        """Set up a task that reads audio files, and the volume or S3."""
        resources.set_resources(self._task(name, task), resources.DECODING, resources.DECODING_HOURS)
        return resources.set_retries(resources.mount_state(resources.use_secrets(task, resources.STORAGE)))

    def _mlflow_task(self, name: str, task: PipelineTask) -> PipelineTask:
        """Set up a light task that changes MLflow or TorchServe."""
        resources.set_resources(self._task(name, task))
        return resources.set_retries(resources.use_mlflow(task))
