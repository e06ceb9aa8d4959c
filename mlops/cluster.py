"""Names of the secrets and volumes that pods of every kind refer to, and the resources that they request.

Required in the namespace before the first run:

- secret `audiocnn-mlflow`: `tracking-uri`, and `username` and `password` if MLflow requires them;
- secret `audiocnn-s3`, optional, for sources on S3: `access-key-id`, `secret-access-key`, `endpoint-url`, and
  `dvc-remote`, the URL of a DVC remote, if .dvc/config has none that pods can reach;
- secret `audiocnn-torchserve`, for the step deploy: `model-store` and `inference-keys`, see docs/serving.md;
- secret `audiocnn-signing`, optional: `signing-key` and `verify-key` in PEM format, see docs/registry.md;
- secret `audiocnn-notify`, optional: `webhook-url`, to which failed runs are reported;
- persistent volume claim `audiocnn-state`, access mode ReadWriteMany: downloads, spectrograms, checkpoints.
"""

from collections.abc import Mapping
from dataclasses import dataclass

STATE_CLAIM = "audiocnn-state"
STATE_FOLDER = "/app/var"  # var/ in the working directory of the image
SHARED_MEMORY = "/dev/shm"  # noqa: S108  the path that PyTorch uses
SHARED_MEMORY_SIZE = "8Gi"  # the default of 64 MB is too small for workers that exchange batches
GPU = "nvidia.com/gpu"


@dataclass(frozen=True)
class Resources:
    """Resource requests and the memory limit of a pod, as Kubernetes quantities."""

    cpu: str
    memory: str
    memory_limit: str


TRAINING = Resources(cpu="4", memory="8Gi", memory_limit="32Gi")


@dataclass(frozen=True)
class Secret:
    """A Kubernetes secret.

    Attributes:
        variables: environment variables of the pod, by key of the secret.
        optional: whether pods start without the secret.
    """

    name: str
    variables: Mapping[str, str]
    optional: bool = False


WEBHOOK_VARIABLE = "AUDIOCNN_WEBHOOK_URL"
WEBHOOK = Secret("audiocnn-notify", {"webhook-url": WEBHOOK_VARIABLE}, optional=True)
_MLFLOW, _S3 = "audiocnn-mlflow", "audiocnn-s3"
# Not optional: without the address, runs would be recorded in the pod and lost with it.
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
