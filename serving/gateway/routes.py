"""The routes for clients: classify, explain, the model."""

import json
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from serving.gateway import answers
from serving.gateway.body import split
from serving.gateway.options import ClassifyOptions, ExplainOptions
from serving.gateway.problems import Problem, documented
from serving.gateway.service import context_of, gateway_of

REFUSALS = documented(400, 401, 403, 408, 413, 415, 422, 429, 500, 503)
router = APIRouter()


def json_response(content: Any) -> Response:
    """Return JSON. The answers are TorchServe's, so they are not validated again."""
    text = json.dumps(content, ensure_ascii=False)
    # A client's JSON may have half of a surrogate pair in a name, which UTF-8 cannot express.
    return Response(text.encode("utf-8", "replace"), media_type="application/json")


CLASSIFY: dict[str, Any] = {
    "summary": "Classify sound files",
    "responses": {200: {"model": answers.Answer | answers.Results}, **REFUSALS},
    "openapi_extra": {"requestBody": answers.REQUEST_BODY},
    "response_class": Response,
}


@router.put("/classify", **CLASSIFY)  # `curl -T FILE`
@router.post("/classify", **CLASSIFY)
async def classify(request: Request, options: Annotated[ClassifyOptions, Query()]) -> Response:
    """Send one sound file as the body, a form with one or more files, or JSON with base64.

    One file gets its answer; several, and JSON with `files`, get `results` with an answer or a problem for each.
    """
    gateway, context = gateway_of(request), context_of(request)
    with gateway.reader.buffered(context):
        # Only the files are kept: they may be as large as the body.
        sounds = await split(await gateway.reader.read(request, context), request, gateway.settings.max_files)
        if sounds.single:
            return json_response(await gateway.classify(sounds.files[0].content, options, context))
        return json_response({"results": await gateway.classify_all(sounds.files, options, context)})


@router.post(
    "/explain",
    summary="Explain the answer to a sound file",
    responses={200: {"description": "Spectrogram, waveform, feature maps and activation map"}, **REFUSALS},
    openapi_extra={"requestBody": answers.REQUEST_BODY},
    response_class=Response,
)
async def explain(request: Request, options: Annotated[ExplainOptions, Query()]) -> Response:
    """Send one sound file as for /classify. docs/serving.md describes the answer."""
    gateway, context = gateway_of(request), context_of(request)
    with gateway.reader.buffered(context):
        sounds = await split(await gateway.reader.read(request, context), request, 1)
        if not sounds.single:
            raise Problem(400, "malformed", "one file can be explained at a time; send it as the body")
        return json_response(await gateway.explain(sounds.files[0].content, options, context))


@router.head("/model", include_in_schema=False)
@router.get("/model", summary="The model that is served", responses=documented(503))
async def model(request: Request) -> answers.ModelDescription:
    """Say which model answers, what it recognizes and which limits apply."""
    gateway = gateway_of(request)
    settings, served = gateway.settings, await gateway.probe.model()
    return answers.ModelDescription(
        name=served.name,
        version=served.version,
        classes=list(served.classes),
        window=answers.Window(
            seconds=served.grid.seconds, hop=served.grid.hop / served.grid.rate, rate=served.grid.rate
        ),
        calibrated=served.calibrated,
        links=answers.Links(model=settings.model_link or None, report=settings.report_link or None),
        key_required=bool(gateway.keys),
        limits=answers.Limits(bytes=settings.max_request_bytes, seconds=settings.max_seconds, formats=gateway.formats),
    )
