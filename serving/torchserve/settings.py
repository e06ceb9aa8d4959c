"""The settings of a TorchServe: its addresses, its state directory, its limits, and how it serves a model."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from audiocnn.config import NonNegativeInt, PositiveInt
from audiocnn.strict_model import StrictModel
from mlops.settings import HttpAddress

MAX_REQUEST_BYTES = 2**31 - 1  # TorchServe counts them in a Java integer
MAX_WORKERS = 256  # each is a process with its own PyTorch, some hundred megabytes
ADDRESSES = ("inference", "management", "metrics")
ARCHIVE_FOLDER = "model-store"  # in the state folder: the archives that TorchServe can register


class TorchServeSettings(StrictModel):
    """Addresses, state folder and limits of a TorchServe.

    Attributes:
        inference, management, metrics: URLs of the APIs; the last one has Prometheus's format.
        state: folder of the model store, the logs and the keys of a TorchServe that runs on this machine.
        max_request_bytes: a larger request is answered with status 413.
    """

    inference: HttpAddress
    management: HttpAddress
    metrics: HttpAddress
    state: str
    max_request_bytes: Annotated[int, Field(ge=1, le=MAX_REQUEST_BYTES)]


class ModelSettings(StrictModel):
    """How a TorchServe serves a model.

    Attributes:
        backend: runtime of the network on a CPU: openvino, onnxruntime, torch, or auto for the first of them whose
            answers equal the model's. A GPU uses PyTorch.
        bf16: let OpenVINO compute in bfloat16; probabilities then differ by up to about 2e-3.
        workers: worker processes of the model.
        batch_size: maximum number of requests that a worker answers together.
        max_batch_delay_ms: time that a worker waits for a batch to fill, in ms. 1 takes all requests that wait; with
            0, TorchServe takes at most two.
    """

    backend: Literal["auto", "openvino", "onnxruntime", "torch"]
    bf16: bool
    workers: Annotated[int, Field(ge=1, le=MAX_WORKERS)]
    batch_size: PositiveInt
    max_batch_delay_ms: NonNegativeInt

    @model_validator(mode="after")
    def _check_bf16(self) -> Self:
        if self.bf16 and self.backend not in ("auto", "openvino"):
            raise PydanticCustomError(
                "bf16",
                "needs the backend openvino or auto, found {backend}",
                {"key": "deploy.bf16", "backend": self.backend},
            )
        return self
