"""What each task requests from a Kubernetes cluster. KFP ignores all of it in local runs.

mlops/cluster.py lists the secrets and the volume that the namespace of the runs has to contain.
"""

from kfp import kubernetes
from kfp.dsl import PipelineTask

from components.ingest.sources import DVC_REMOTE
from mlops.cluster import (
    GPU,
    SHARED_MEMORY,
    SHARED_MEMORY_SIZE,
    STATE_CLAIM,
    STATE_FOLDER,
    STORAGE,
    TRACKING,
    TRACKING_LOGIN,
    Resources,
    Secret,
)
from mlops.image import IMAGE, IMAGE_VARIABLE

LIGHT = Resources(cpu="500m", memory="1Gi", memory_limit="4Gi")
DECODING = Resources(cpu="2", memory="2Gi", memory_limit="8Gi")


def set_resources(task: PipelineTask, resources: Resources = LIGHT) -> PipelineTask:
    """Request CPU and memory, and run the task as a user other than root."""
    task.set_cpu_request(resources.cpu).set_memory_request(resources.memory)
    task.set_memory_limit(resources.memory_limit)
    return kubernetes.set_security_context(task, run_as_non_root=True)


def use_storage(task: PipelineTask) -> PipelineTask:
    """Set the credentials for S3, if the namespace has them."""
    return mount_secret_env(task, STORAGE)


def use_sources(task: PipelineTask) -> PipelineTask:
    """Set the credentials for S3 and the DVC remote, and mount the volume with the downloads."""
    mount_secret_env(task, Secret(STORAGE.name, {"dvc-remote": DVC_REMOTE}, optional=True))
    return mount_state(use_storage(task))


def use_mlflow(task: PipelineTask) -> PipelineTask:
    """Set MLflow's address and login, and the credentials for S3, where it may keep artifacts.

    A pod without the address does not start: its runs would be lost.
    """
    return use_storage(mount_secret_env(mount_secret_env(task, TRACKING), TRACKING_LOGIN))


def mount_secret_env(task: PipelineTask, secret: Secret) -> PipelineTask:
    """Set environment variables from the keys of a secret."""
    return kubernetes.use_secret_as_env(task, secret.name, dict(secret.variables), optional=secret.optional)


def set_image_env(task: PipelineTask) -> PipelineTask:
    """Set the image's name, which train records and starts nodes with; `pipeline.submit.set_image` replaces it too."""
    return task.set_env_variable(IMAGE_VARIABLE, IMAGE)


def mount_state(task: PipelineTask) -> PipelineTask:
    """Mount the volume that outlives a run: downloads, the spectrogram cache, checkpoints."""
    return kubernetes.mount_pvc(task, pvc_name=STATE_CLAIM, mount_path=STATE_FOLDER)


def request_gpu(task: PipelineTask) -> PipelineTask:
    """Request one GPU, shared memory for workers that exchange batches, and two retries.

    Retries make preemptible nodes usable: training resumes from its last checkpoint.
    """
    task.set_accelerator_type(GPU).set_accelerator_limit(1)
    task.set_retry(num_retries=2, backoff_duration="60s", backoff_factor=2)
    # GPU nodes are commonly tainted with the resource's name, so that only pods that request one run there.
    kubernetes.add_toleration(task, key=GPU, operator="Exists", effect="NoSchedule")
    return kubernetes.empty_dir_mount(
        task, "shared-memory", SHARED_MEMORY, medium="Memory", size_limit=SHARED_MEMORY_SIZE
    )
