"""The block `deploy` of params.yaml: the TorchServe to deploy to, and how it serves the model."""

from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from audiocnn.config import NonNegativeInt, PositiveInt
from serving.torchserve.settings import ADDRESSES, TorchServeSettings

MAX_WORKERS = 256  # each is a process with its own PyTorch, some hundred megabytes


class DeploySettings(TorchServeSettings):
    """Block `deploy`.

    Attributes:
        start: start a TorchServe on this machine if none is running.
        workers: worker processes of the model.
        batch_size: maximum number of requests that a worker answers together.
        max_batch_delay_ms: time that a worker waits for a batch to fill, in ms.
    """

    start: bool
    workers: Annotated[int, Field(ge=1, le=MAX_WORKERS)]
    batch_size: PositiveInt
    max_batch_delay_ms: NonNegativeInt

    @model_validator(mode="after")
    def _check_ports(self) -> Self:
        ports: dict[int | None, str] = {}
        for key in ADDRESSES if self.start else ():  # one that runs elsewhere may answer everything behind one address
            port = urlsplit(getattr(self, key)).port
            if (first := ports.setdefault(port, key)) != key:
                raise PydanticCustomError(
                    "duplicated_port",
                    "has the same port as deploy.{first}; each address needs its own, found {port}",
                    {"key": f"deploy.{key}", "first": first, "port": port},
                )
        return self
