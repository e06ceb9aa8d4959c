"""What each step asks of a Kubernetes cluster: processors, memory, credentials, shared folders. KFP ignores it locally.

components/cluster.py tells what the namespace of the runs has to hold.
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
    Needs,
    Secret,
)
from mlops.image import IMAGE, IMAGE_VARIABLE

LIGHT = Needs(cpu="500m", memory="1Gi", memory_limit="4Gi")
DECODING = Needs(cpu="2", memory="2Gi", memory_limit="8Gi")


def place(task: PipelineTask, needs: Needs = LIGHT) -> PipelineTask:
    """Reserve what a step needs, and run it without root."""
    task.set_cpu_request(needs.cpu).set_memory_request(needs.memory).set_memory_limit(needs.memory_limit)
    return kubernetes.set_security_context(task, run_as_non_root=True)


def reach_storage(task: PipelineTask) -> PipelineTask:
    """Credentials for S3, where the namespace has them."""
    return _reveal(task, STORAGE)


def reach_sources(task: PipelineTask) -> PipelineTask:
    """S3, the DVC remote, and the folder in which downloads outlive a run."""
    _reveal(task, Secret(STORAGE.name, {"dvc-remote": DVC_REMOTE}, optional=True))
    return share_state(reach_storage(task))


def reach_tracking(task: PipelineTask) -> PipelineTask:
    """Where MLflow is, and its login; its artifacts may lie on S3. Without the address a pod does not start."""
    return reach_storage(_reveal(_reveal(task, TRACKING), TRACKING_LOGIN))


def _reveal(task: PipelineTask, secret: Secret) -> PipelineTask:
    return kubernetes.use_secret_as_env(task, secret.name, dict(secret.variables), optional=secret.optional)


def tell_image(task: PipelineTask) -> PipelineTask:
    """The image's name, for a step that starts pods of its own; `pipeline.submit.with_image` replaces it too."""
    return task.set_env_variable(IMAGE_VARIABLE, IMAGE)


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
    return kubernetes.empty_dir_mount(
        task, "shared-memory", SHARED_MEMORY, medium="Memory", size_limit=SHARED_MEMORY_SIZE
    )
