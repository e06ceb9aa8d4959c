"""Metrics in Prometheus's format."""

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from serving.gateway.context import RequestContext

SECONDS = (0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Metrics:
    """The counters and histograms of a gateway."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._seconds = Histogram(
            "audiocnn_gateway_request_seconds",
            "Time from the head of a request to the end of its answer, by route and version of the model",
            ["route", "version"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self._requests = Counter(
            "audiocnn_gateway_requests", "Requests by route and status", ["route", "status"], registry=self.registry
        )
        self.refusals = Counter(
            "audiocnn_gateway_refusals", "Requests and files without an answer", ["reason"], registry=self.registry
        )
        self.answers = Counter(
            "audiocnn_gateway_answers",
            "Answers by version of the model and class; the class `unknown` is none of the model's",
            ["version", "class"],
            registry=self.registry,
        )
        self._retries = Counter(
            "audiocnn_gateway_retries", "Attempts to get an answer from TorchServe that failed", registry=self.registry
        )

    def record(self, route: str, status: int, seconds: float, context: RequestContext) -> None:
        """Count a request."""
        self._seconds.labels(route, context.version).observe(seconds)
        self._requests.labels(route, str(status)).inc()
        self._retries.inc(context.retries)
        if context.reason:
            self.refusals.labels(context.reason).inc()

    def text(self) -> bytes:
        """Return all values as a scrape expects them."""
        return generate_latest(self.registry)
