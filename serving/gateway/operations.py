"""The routes for operators: whether the gateway runs, whether a model answers, metrics."""

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from serving.gateway.answers import Status
from serving.gateway.problems import documented
from serving.gateway.service import gateway_of

router = APIRouter()


@router.head("/healthz", include_in_schema=False)  # HEAD is what many load balancers send
@router.get("/healthz", summary="Whether the gateway runs")
async def healthz() -> Status:
    """Answer without asking TorchServe."""
    return Status(status="ok")


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", summary="Whether a model answers", responses=documented(503))
async def readyz(request: Request) -> Status:
    """Classify a tone. The answer is valid for two seconds, so that probes cost little."""
    await gateway_of(request).probe.model()
    return Status(status="ready")


@router.get("/metrics", include_in_schema=False)
async def metrics(request: Request) -> Response:
    """Return the metrics in Prometheus's text format."""
    return Response(gateway_of(request).metrics.text(), media_type=CONTENT_TYPE_LATEST)
