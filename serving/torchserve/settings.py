"""The settings of a TorchServe: its addresses, its state directory and its limits."""

from typing import Annotated

from pydantic import Field

from audiocnn.strict_model import StrictModel
from mlops.settings import HttpAddress

MAX_REQUEST_BYTES = 2**31 - 1  # TorchServe counts them in a Java integer
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
