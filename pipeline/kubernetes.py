"""What each step asks of a Kubernetes cluster: processors, memory, credentials, shared folders. KFP ignores it locally.

The namespace of the runs has to hold, before the first run:

- the secret `audiocnn-mlflow`: key `tracking-uri`, and `username` and `password` where MLflow asks for them;
- the secret `audiocnn-s3`, for sources on S3: keys `access-key-id`, `secret-access-key`, `endpoint-url`, and
  `dvc-remote`, a URL, where .dvc/config names no remote that the pods reach; may be absent;
- the persistent volume claim `audiocnn-state`, access mode ReadWriteMany: downloads, spectrograms, checkpoints.
"""

from dataclasses import dataclass

from kfp import kubernetes
from kfp.dsl import PipelineTask

from components.ingest.sources import DVC_REMOTE

MLFLOW_SECRET = "audiocnn-mlflow"  # noqa: S105  a secret's name
S3_SECRET = "audiocnn-s3"  # noqa: S105  a secret's name
STATE_CLAIM = "audiocnn-state"
STATE_FOLDER = "/app/var"  # the image works in /app, so the relative var/ of a laptop is this folder on a cluster
SHARED_MEMORY = "/dev/shm"  # noqa: S108  where PyTorch's workers look for it
GPU = "nvidia.com/gpu"


@dataclass(frozen=True)
class Needs:
    """Kubernetes quantities: what is reserved, and the memory above which the kernel ends the step."""

    cpu: str
    memory: str
    memory_limit: str


LIGHT = Needs(cpu="500m", memory="1Gi", memory_limit="4Gi")
DECODING = Needs(cpu="2", memory="2Gi", memory_limit="8Gi")
TRAINING = Needs(cpu="4", memory="8Gi", memory_limit="32Gi")


def place(task: PipelineTask, needs: Needs = LIGHT) -> PipelineTask:
    """Reserve what a step needs, and run it without root."""
    task.set_cpu_request(needs.cpu).set_memory_request(needs.memory).set_memory_limit(needs.memory_limit)
    return kubernetes.set_security_context(task, run_as_non_root=True)


def reach_storage(task: PipelineTask) -> PipelineTask:
    """Credentials for S3, where the namespace has them."""
    keys = {
        "access-key-id": "AWS_ACCESS_KEY_ID",
        "secret-access-key": "AWS_SECRET_ACCESS_KEY",
        "endpoint-url": "AWS_ENDPOINT_URL",
    }
    return kubernetes.use_secret_as_env(task, S3_SECRET, keys, optional=True)


def reach_sources(task: PipelineTask) -> PipelineTask:
    """S3, the DVC remote, and the folder in which downloads outlive a run."""
    kubernetes.use_secret_as_env(task, S3_SECRET, {"dvc-remote": DVC_REMOTE}, optional=True)
    return share_state(reach_storage(task))


def reach_tracking(task: PipelineTask) -> PipelineTask:
    """Where MLflow is, and its login; its artifacts may lie on S3. Without the address a pod does not start."""
    kubernetes.use_secret_as_env(task, MLFLOW_SECRET, {"tracking-uri": "MLFLOW_TRACKING_URI"})
    login = {"username": "MLFLOW_TRACKING_USERNAME", "password": "MLFLOW_TRACKING_PASSWORD"}
    kubernetes.use_secret_as_env(task, MLFLOW_SECRET, login, optional=True)
    return reach_storage(task)


def share_state(task: PipelineTask) -> PipelineTask:
    """Mount the folder that outlives a run: the spectrogram cache, checkpoints."""
    return kubernetes.mount_pvc(task, pvc_name=STATE_CLAIM, mount_path=STATE_FOLDER)


def give_gpu(task: PipelineTask) -> PipelineTask:
    """One GPU, shared memory beyond a pod's 64 MB for workers that exchange batches, and two retries.

    A retry is cheap, since training resumes from its last checkpoint: it makes preemptible nodes usable.
    """
    task.set_accelerator_type(GPU).set_accelerator_limit(1)
    task.set_retry(num_retries=2, backoff_duration="60s", backoff_factor=2)
    # GPU nodes are commonly tainted with the resource's name, so that only pods that ask for one land there.
    kubernetes.add_toleration(task, key=GPU, operator="Exists", effect="NoSchedule")
    return kubernetes.empty_dir_mount(task, "shared-memory", SHARED_MEMORY, medium="Memory", size_limit="8Gi")
