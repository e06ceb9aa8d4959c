"""The block `gateway` of params.yaml, and what the gateway takes from other blocks."""

from typing import Annotated, Any

from pydantic import AfterValidator, Field

from audiocnn.config import NonNegativeInt, PositiveInt
from audiocnn.strict_model import StrictModel
from mlops.settings import ResolvedSettings, is_http_address
from serving.torchserve.settings import TorchServeSettings

Seconds = Annotated[float, Field(gt=0, le=86_400)]


def _check_link(url: str) -> str:
    if url and not is_http_address(url):
        raise ValueError("should be empty, or a URL such as https://mlflow.example.org")
    return url


Link = Annotated[str, AfterValidator(_check_link)]


class GatewaySettings(StrictModel):
    """Block `gateway`.

    Attributes:
        host, port: where it listens. A host that is not on loopback needs keys.
        keys: file with a line NAME:KEY for each client; empty for those of the variable AUDIOCNN_GATEWAY_KEYS.
        max_request_bytes: a larger request is answered with status 413.
        max_buffered_bytes: of the requests that are handled at once; beyond it, new ones are answered with status 503.
        max_files: of one request.
        max_seconds: a longer recording is answered with status 413.
        read_timeout_s: a request of which nothing arrives for this time is answered with status 408.
        deadline_s: time for TorchServe to answer, repetitions included.
        concurrency: files that TorchServe is given at once; more wait. Below TorchServe's job_queue_size.
        requests_per_minute: of a key, or of an address without keys; 0 for no limit.
        cors_origins: of the pages that may send requests, such as https://sounds.example.org.
        model_link, report_link: addresses of the model in MLflow and of its evaluation report; may be empty.
    """

    host: str
    port: Annotated[int, Field(ge=1, le=65535)]
    keys: str
    max_request_bytes: PositiveInt
    max_buffered_bytes: PositiveInt
    max_files: PositiveInt
    max_seconds: Seconds
    read_timeout_s: Seconds
    deadline_s: Seconds
    concurrency: PositiveInt
    requests_per_minute: NonNegativeInt
    cors_origins: tuple[str, ...]
    model_link: Link
    report_link: Link

    @property
    def url(self) -> str:
        """Address of the gateway for this machine."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"


def torchserve_settings(resolved: ResolvedSettings) -> TorchServeSettings:
    """Return the part of the block `deploy` that names the TorchServe."""
    block: dict[str, Any] = resolved.values["deploy"]
    known = {name: block[name] for name in TorchServeSettings.model_fields if name in block}
    return TorchServeSettings.parse(known, resolved.where, resolved.places, prefix="deploy")


def model_name(resolved: ResolvedSettings) -> str:
    """Return the name of the registered model."""
    return str(resolved.values["register"]["name"])
