"""What is known about a request while it is handled: for its answer, for TorchServe, for logs and metrics."""

import re
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
TRACEPARENT = re.compile(r"[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


async def _never() -> bool:
    return False


@dataclass
class RequestContext:
    """A request. `reason`, `detail`, `version`, `label` and `size` are set by whatever finds them out.

    Attributes:
        request_id: the header X-Request-Id if it is a valid one, otherwise a new identifier.
        traceparent: the header of W3C Trace Context if it is a valid one, otherwise empty.
        client: name of the client's key, or its address.
        size: bytes of the body that were read.
        is_disconnected: tells whether the client has closed the connection, once the body was read.
    """

    request_id: str
    traceparent: str
    client: str
    began: float = field(default_factory=time.monotonic)
    reason: str = ""
    detail: str = ""
    version: str = ""
    label: str = ""
    size: int = 0
    retries: int = 0
    is_disconnected: Callable[[], Awaitable[bool]] = _never

    @property
    def headers(self) -> dict[str, str]:
        """Headers for the answer and for requests to TorchServe."""
        trace = {"traceparent": self.traceparent} if self.traceparent else {}
        return {"X-Request-Id": self.request_id, **trace}


def make_context(request_id: str, traceparent: str, client: str) -> RequestContext:
    """Create the context of a request from headers, which a client may have malformed."""
    identifier = request_id if REQUEST_ID.fullmatch(request_id) else secrets.token_hex(16)
    trace = traceparent if TRACEPARENT.fullmatch(traceparent) and not traceparent.startswith("ff") else ""
    return RequestContext(identifier, trace, client)
