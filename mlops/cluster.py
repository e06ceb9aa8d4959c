"""What the namespace of the runs has to hold, by name: secrets, the shared volume. Pods of every kind refer to it.

Before the first run it needs

- the secret `audiocnn-mlflow`: key `tracking-uri`, and `username` and `password` where MLflow asks for them;
- the secret `audiocnn-s3`, for sources on S3: keys `access-key-id`, `secret-access-key`, `endpoint-url`, and
  `dvc-remote`, a URL, where .dvc/config names no remote that the pods reach; may be absent;
- the persistent volume claim `audiocnn-state`, access mode ReadWriteMany: downloads, spectrograms, checkpoints.
"""

from collections.abc import Mapping
from dataclasses import dataclass

STATE_CLAIM = "audiocnn-state"
STATE_FOLDER = "/app/var"  # the image works in /app, so the relative var/ of a laptop is this folder on a cluster
SHARED_MEMORY = "/dev/shm"  # noqa: S108  where PyTorch's workers look for it
SHARED_MEMORY_SIZE = "8Gi"  # beyond a container's 64 MB, for workers that exchange batches
GPU = "nvidia.com/gpu"


@dataclass(frozen=True)
class Resources:
    """Kubernetes quantities: what is reserved, and the memory above which the kernel ends the step."""

    cpu: str
    memory: str
    memory_limit: str


TRAINING = Resources(cpu="4", memory="8Gi", memory_limit="32Gi")


@dataclass(frozen=True)
class Secret:
    """Keys of a secret, and the environment variables that they become."""

    name: str
    variables: Mapping[str, str]
    optional: bool = False


_MLFLOW, _S3 = "audiocnn-mlflow", "audiocnn-s3"
# Without the address runs would vanish with the pod: it has to be there, or the pod does not start.
TRACKING = Secret(_MLFLOW, {"tracking-uri": "MLFLOW_TRACKING_URI"})
TRACKING_LOGIN = Secret(
    _MLFLOW, {"username": "MLFLOW_TRACKING_USERNAME", "password": "MLFLOW_TRACKING_PASSWORD"}, optional=True
)
STORAGE = Secret(
    _S3,
    {
        "access-key-id": "AWS_ACCESS_KEY_ID",
        "secret-access-key": "AWS_SECRET_ACCESS_KEY",
        "endpoint-url": "AWS_ENDPOINT_URL",
    },
    optional=True,
)
