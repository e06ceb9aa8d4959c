"""The answers of the gateway, as its OpenAPI document describes them."""

from typing import Any

from pydantic import BaseModel, Field

from serving.gateway.problems import ProblemBody


class Prediction(BaseModel):
    """A class and its probability."""

    label: str = Field(alias="class")
    probability: float = Field(ge=0, le=1)


class Model(BaseModel):
    """The model that answered: its number in the registry, and the digest of the data that it was trained on."""

    name: str
    version: int
    dataset: str | None


class Clip(BaseModel):
    """A file as it was sent."""

    seconds: float
    rate: int
    channels: int


class Window(BaseModel):
    """The windows that the model is given: length and distance between two starts in s, sample rate in Hz."""

    seconds: float
    hop: float
    rate: int


class Event(BaseModel):
    """A class that was heard, with its start and end in s."""

    start: float
    end: float
    label: str = Field(alias="class")
    confidence: float = Field(ge=0, le=1)


class WindowProbabilities(BaseModel):
    """The start of a window in s, and its probabilities in the order of `classes`; null if it is silent."""

    start: float
    probabilities: list[float] | None


class Answer(BaseModel):
    """The answer to a sound file. `label` is "unknown" if a calibrated model recognizes none of its classes.

    `events`, and `windows` with `classes` and `thresholds`, are there if the options ask for them.
    """

    predictions: list[Prediction]
    label: str
    calibrated: bool
    model: Model
    clip: Clip
    analyzed_seconds: float
    silent_seconds: float
    window: Window
    events: list[Event] | None = None
    windows: list[WindowProbabilities] | None = None
    classes: list[str] | None = None
    thresholds: dict[str, float] | None = None


class FileAnswer(Answer):
    """The answer to one of several files."""

    file: str


class FileError(BaseModel):
    """Why one of several files got no answer."""

    file: str
    error: ProblemBody


class Results(BaseModel):
    """The answers to several files, in their order."""

    results: list[FileAnswer | FileError]


class Links(BaseModel):
    """Addresses for people: the model's page in MLflow, and the evaluation report."""

    model: str | None
    report: str | None


class Limits(BaseModel):
    """Limits of a request."""

    bytes: int
    seconds: float
    formats: list[str]


class ModelDescription(BaseModel):
    """The model that is served, and how to use it."""

    name: str
    version: int
    classes: list[str]
    window: Window
    calibrated: bool
    links: Links
    key_required: bool
    limits: Limits


class Status(BaseModel):
    """Whether the gateway runs, or whether a model answers."""

    status: str


_OBJECT = {"type": "object", "additionalProperties": False}
_AUDIO = {"type": "string", "contentEncoding": "base64"}
_FILE = {**_OBJECT, "properties": {"name": {"type": "string"}, "audio": _AUDIO}, "required": ["audio"]}
_FILES = {**_OBJECT, "properties": {"files": {"type": "array", "items": _FILE, "minItems": 1}}, "required": ["files"]}
_BYTES = {"type": "string", "format": "binary"}
REQUEST_BODY: dict[str, Any] = {  # of the routes that take sound files: see `body.split`
    "required": True,
    "content": {
        "application/octet-stream": {"schema": _BYTES},
        "multipart/form-data": {"schema": {"type": "object", "additionalProperties": _BYTES}},
        "application/json": {"schema": {"oneOf": [_FILE, _FILES]}},
    },
}
