"""The routes of KServe's protocols v1 and v2 (Open Inference Protocol), for clients that speak them.

https://kserve.github.io/website/docs/concepts/architecture/data-plane
"""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request, Response
from pydantic import BaseModel

from serving.gateway.body import SoundFile, decode_base64, parse_json
from serving.gateway.options import ClassifyOptions
from serving.gateway.problems import Problem, documented
from serving.gateway.routes import REFUSALS, json_response
from serving.gateway.service import context_of, gateway_of

TEXT = {"type": "string", "contentEncoding": "base64"}
INSTANCE = {
    "oneOf": [TEXT, {"type": "object", "properties": {"b64": TEXT}, "required": ["b64"], "additionalProperties": False}]
}
TENSOR = {
    "type": "object",
    "properties": {
        "name": {"const": "audio"},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 1, "maxItems": 1},
        "datatype": {"const": "BYTES"},
        "parameters": {"type": "object"},
        "data": {"type": "array", "items": TEXT, "minItems": 1},
    },
    "required": ["name", "shape", "datatype", "data"],
}


def _json_body(properties: dict[str, Any]) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return {"required": True, "content": {"application/json": {"schema": schema}}}


Name = Annotated[str, Path(description="Name of the model, as /model gives it")]
Version = Annotated[str, Path(description="Version of the model in the registry, as /model gives it")]
router = APIRouter(responses=documented(404))
V2: dict[str, Any] = {"responses": documented(503), "tags": ["KServe v2"]}
INFER: dict[str, Any] = {
    "responses": REFUSALS,
    "response_class": Response,
    "openapi_extra": {
        "requestBody": _json_body({"inputs": {"type": "array", "items": TENSOR, "minItems": 1, "maxItems": 1}})
    },
    "tags": ["KServe v2"],
}


async def _check_version(request: Request, name: Name, version: Version) -> None:
    _check_name(request, name)
    _check_served(version, (await gateway_of(request).probe.model()).version)


class V1Model(BaseModel):
    """Whether a model is ready."""

    name: str
    ready: bool


class Tensor(BaseModel):
    """A tensor of protocol v2, without its data."""

    name: str
    datatype: str
    shape: list[int]


class V2Server(BaseModel):
    """The server in protocol v2."""

    name: str
    version: str
    extensions: list[str]


class V2Model(BaseModel):
    """A model in protocol v2."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[Tensor]
    outputs: list[Tensor]


class Live(BaseModel):
    """Whether the gateway runs."""

    live: bool


class Ready(BaseModel):
    """Whether a model answers."""

    ready: bool


@router.post(
    "/v1/models/{name}:predict",
    responses=REFUSALS,
    response_class=Response,
    openapi_extra={"requestBody": _json_body({"instances": {"type": "array", "items": INSTANCE, "minItems": 1}})},
    tags=["KServe v1"],
)
async def v1_predict(request: Request, name: Name) -> Response:
    """Classify base64 sound files. A file without an answer gets a problem in its place."""
    _check_name(request, name)
    gateway, context = gateway_of(request), context_of(request)
    with gateway.reader.buffered(context):
        value = parse_json(await gateway.reader.read(request, context))
        instances = value.get("instances") if isinstance(value, dict) else None
        files = _files(request, instances, "instances")
        results = await gateway.classify_all(files, ClassifyOptions(), context)
    for result in results:
        del result["file"]
    return json_response({"predictions": results})


@router.get("/v1/models/{name}", responses=documented(503), tags=["KServe v1"])
async def v1_model(request: Request, name: Name) -> V1Model:
    """Say that the model is ready, or answer 503."""
    _check_name(request, name)
    return V1Model(name=(await gateway_of(request).probe.model()).name, ready=True)


@router.get("/v2", tags=["KServe v2"])
async def v2_server(request: Request) -> V2Server:
    """Name the server and the version of its API."""
    return V2Server(name=request.app.title, version=request.app.version, extensions=[])


@router.get("/v2/health/live", tags=["KServe v2"])
async def v2_live() -> Live:
    """Say that the gateway runs."""
    return Live(live=True)


@router.get("/v2/health/ready", responses=documented(503), tags=["KServe v2"])
async def v2_ready(request: Request) -> Ready:
    """Say that a model answers, or answer 503."""
    await gateway_of(request).probe.model()
    return Ready(ready=True)


@router.get("/v2/models/{name}/versions/{version}/ready", dependencies=[Depends(_check_version)], **V2)
@router.get("/v2/models/{name}/ready", **V2)
async def v2_model_ready(request: Request, name: Name) -> V1Model:
    """Say that the model is ready, or answer 503."""
    return await v1_model(request, name)


@router.get("/v2/models/{name}/versions/{version}", dependencies=[Depends(_check_version)], **V2)
@router.get("/v2/models/{name}", **V2)
async def v2_model(request: Request, name: Name) -> V2Model:
    """Describe the tensors that the model takes and returns."""
    _check_name(request, name)
    model = await gateway_of(request).probe.model()
    classes = len(model.classes)
    return V2Model(
        name=model.name,
        versions=[str(model.version)],
        platform="pytorch",
        inputs=[Tensor(name="audio", datatype="BYTES", shape=[-1])],
        outputs=[
            Tensor(name="label", datatype="BYTES", shape=[-1]),
            Tensor(name="classes", datatype="BYTES", shape=[-1, classes]),
            Tensor(name="probabilities", datatype="FP32", shape=[-1, classes]),
        ],
    )


@router.post("/v2/models/{name}/versions/{version}/infer", dependencies=[Depends(_check_version)], **INFER)
@router.post("/v2/models/{name}/infer", **INFER)
async def v2_infer(request: Request, name: Name) -> Response:
    """Classify the base64 sound files of a tensor. The answer to all is the problem of the first one that has one."""
    _check_name(request, name)
    gateway, context = gateway_of(request), context_of(request)
    with gateway.reader.buffered(context):
        value = parse_json(await gateway.reader.read(request, context))
        files = _files(request, _tensor_data(value), "inputs[0].data")
        classes = len((await gateway.probe.model()).classes)
        results = await gateway.classify_all(files, ClassifyOptions(top_k=classes), context)
    for index, result in enumerate(results):
        if (error := result.get("error")) is not None:
            raise Problem(error["status"], error["reason"], f"inputs[0].data[{index}]: {error['detail']}")
        _check_served(request.path_params.get("version"), result["model"]["version"])  # it may have been replaced
    predictions = [prediction for result in results for prediction in result["predictions"]]
    shape = [len(results), len(predictions) // len(results)]
    outputs = [
        {"name": "label", "datatype": "BYTES", "shape": shape[:1], "data": [result["label"] for result in results]},
        {"name": "classes", "datatype": "BYTES", "shape": shape, "data": [each["class"] for each in predictions]},
        {
            "name": "probabilities",
            "datatype": "FP32",
            "shape": shape,
            "data": [each["probability"] for each in predictions],
        },
    ]
    identifier = {"id": value["id"]} if isinstance(value.get("id"), str) else {}
    version = str(results[0]["model"]["version"])
    return json_response({"model_name": name, "model_version": version, **identifier, "outputs": outputs})


def _check_name(request: Request, name: str) -> None:
    known = gateway_of(request).model
    if name != known:
        raise Problem(404, "not_found", f"there is no model of this name; the gateway serves {known}")


def _check_served(wanted: str | None, served: int) -> None:
    if wanted not in (None, str(served)):
        raise Problem(404, "not_found", f"this version of the model is not served; the gateway serves {served}")


def _files(request: Request, values: Any, where: str) -> tuple[SoundFile, ...]:
    """Return the sound files of a list with base64 texts, or objects {"b64": text}."""
    limit = gateway_of(request).settings.max_files
    if not isinstance(values, list) or not values:
        raise Problem(400, "malformed", f"{where} is not a list of base64 sound files")
    if len(values) > limit:
        raise Problem(413, "too_many_files", f"the request has {len(values)} files; the maximum is {limit}")
    texts = [value["b64"] if isinstance(value, dict) and set(value) == {"b64"} else value for value in values]
    return tuple(SoundFile("", decode_base64(text, f"{where}[{index}]")) for index, text in enumerate(texts))


def _tensor_data(value: Any) -> Any:
    inputs = value.get("inputs") if isinstance(value, dict) else None
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise Problem(400, "malformed", "inputs is not a list with one tensor, `audio`")
    tensor = inputs[0]
    data = tensor.get("data")
    if tensor.get("datatype") != "BYTES" or not isinstance(data, list) or tensor.get("shape") != [len(data)]:
        raise Problem(
            400, "malformed", "inputs[0] is not a tensor of the datatype BYTES whose shape is that of its data"
        )
    return data
