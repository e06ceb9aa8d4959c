"""What happens to every request before and after its route: identifiers, keys, rate limits, logs, metrics."""

import logging
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.gateway.authentication import Keys, check_host
from serving.gateway.context import RequestContext, make_context
from serving.gateway.limits import RateLimiter
from serving.gateway.metrics import Metrics
from serving.gateway.problems import Problem
from serving.gateway.settings import GatewaySettings

OPEN_METHODS = ("GET", "HEAD")  # they run no model; /readyz and /model share one prediction for all clients
QUIET = ("/healthz", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready")  # logged only if they fail
log = logging.getLogger(__name__)


class RequestRecorder:
    """Gives each request its context, adds the identifiers to the answer, and records how it ended."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        address = scope["client"][0] if scope.get("client") else "unknown"
        context = make_context(headers.get("x-request-id", ""), headers.get("traceparent", ""), address)
        scope.setdefault("state", {})["context"] = context
        status = 0

        async def send_with_identifiers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message).update(context.headers)
            await send(message)

        try:
            await self._app(scope, receive, send_with_identifiers)
        except Exception:
            context.reason = "internal"
            log.exception("request failed", extra={"request_id": context.request_id})
            if status:  # the answer has begun: uvicorn closes the connection
                raise
            problem = Problem(500, "internal", "internal error; the gateway's log has more under the request_id")
            await problem.response(context.request_id)(scope, receive, send_with_identifiers)
        finally:
            self._record(scope, context, status)

    def _record(self, scope: Scope, context: RequestContext, status: int) -> None:
        seconds = time.monotonic() - context.began
        route = getattr(scope.get("route"), "path", "other")
        self._metrics.record(route, status, seconds, context)
        if status < 400 and scope["path"] in QUIET:
            return
        fields = {
            "request_id": context.request_id,
            "traceparent": context.traceparent,
            "client": context.client,
            "method": scope["method"],
            "path": scope["path"],
            "status": status,  # 0: the client closed the connection
            "reason": context.reason,
            "detail": context.detail,
            "version": context.version,
            "label": context.label,
            "bytes": context.size,
            "retries": context.retries,
        }
        kept = {name: value for name, value in fields.items() if value not in ("", None)}
        log.info("request", extra={**kept, "milliseconds": round(1000 * seconds, 1)})


class Guard:
    """Refuses requests for another host, without a valid key, or above the rate limit, before their body is read."""

    def __init__(self, app: ASGIApp, keys: Keys, settings: GatewaySettings) -> None:
        self._app = app
        self._keys = keys
        self._settings = settings
        self._limiter = RateLimiter(settings.requests_per_minute)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            context: RequestContext = scope["state"]["context"]
            try:
                self._check(scope["method"], Headers(scope=scope), context)
            except Problem as problem:
                context.reason, context.detail = problem.reason, str(problem)
                await problem.response(context.request_id)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _check(self, method: str, headers: Headers, context: RequestContext) -> None:
        if not self._keys:
            check_host(headers.get("host", ""), self._settings)
        if method not in OPEN_METHODS:
            context.client = self._keys.name_of(headers.get("authorization")) or context.client
            self._limiter.admit(context.client)
