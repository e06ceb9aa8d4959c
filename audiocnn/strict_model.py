"""StrictModel: frozen pydantic models that refuse wrong types, unknown keys and impossible values."""

import json
import re
from collections.abc import Mapping
from types import UnionType
from typing import Any, Literal, Self, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from audiocnn.errors import AudioCNNError

MAX_INTEGER = 2**53  # Kubeflow carries every number as a double, which is exact for integers up to it
NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")


class SettingsError(AudioCNNError):
    """Settings that cannot be used. The message has one line for each error: place, key, what is wrong."""


class StrictModel(BaseModel):
    """Base class of settings and of the JSON records that steps exchange.

    Types are strict, with four conversions that YAML and Kubeflow make necessary: integral floats become integers (KFP
    sends every number as a double), lists become tuples, text such as ``1e-4`` becomes a float (YAML 1.1 reads it as
    text), and an integer is accepted where a float is expected. Booleans are not numbers.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _convert(cls, value: Any, info: ValidationInfo) -> Any:
        return convert(value, cls.model_fields[str(info.field_name)].annotation)

    @classmethod
    def parse(cls, values: Any, where: str, places: Mapping[str, str] | None = None, prefix: str = "") -> Self:
        """Validate a mapping.

        Args:
            values: keys and values, nested like the model.
            where: what is validated, as error messages name it.
            places: by dotted key, where single keys were set, for example "params.yaml, line 7".
            prefix: the dotted key of the mapping itself, such as "train", where it is part of a larger one.
        Raises:
            SettingsError: naming every error with its place and key.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            errors = [details for details in error.errors() if not _is_consequence(details)]
            found = [_sentence(cls, details, where, places or {}, prefix) for details in errors]
            raise SettingsError("\n".join(found)) from error

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON types; `parse` accepts them."""
        return self.model_dump(mode="json")

    def replace(self, **changes: Any) -> Self:
        """Return a validated copy with changed fields."""
        return type(self)(**{**dict(iter(self)), **changes})  # `iter`: a field may be named `keys`

    def merged_with(self, changes: Mapping[str, Any], where: str) -> Self:
        """Return a validated copy with changed keys, nested ones too: ``{"epochs": 3, "augment": {"mix": "power"}}``.

        Raises:
            SettingsError: naming `where` and the key.
        """
        return self.parse(merge(self.to_dict(), changes), where)


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with the keys of `changes` replaced; mappings are merged recursively."""
    merged = dict(base)
    for key, value in changes.items():
        inner = merged.get(key)
        merged[key] = merge(inner, value) if isinstance(value, Mapping) and isinstance(inner, Mapping) else value
    return merged


def convert(value: Any, annotation: Any) -> Any:
    """Apply the conversions of StrictModel to the value of a field with this annotation."""
    if isinstance(value, bool):
        if not _accepts_bool(annotation):
            raise PydanticCustomError("boolean", "should not be a boolean")
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) <= MAX_INTEGER:
        return int(value)
    if isinstance(value, int) and abs(value) > MAX_INTEGER:
        raise PydanticCustomError("too_large", "is beyond 2**53, the largest integer that is kept exactly")
    if isinstance(value, str) and annotation is float and NUMBER.fullmatch(value):
        return float(value)
    if isinstance(value, list | tuple) and get_origin(annotation) is tuple:
        item = get_args(annotation)[0]
        return tuple(convert(each, item) for each in value)
    return value


def _accepts_bool(annotation: Any) -> bool:
    if get_origin(annotation) in (Union, UnionType):
        return any(map(_accepts_bool, get_args(annotation)))
    if get_origin(annotation) is Literal:
        return any(isinstance(choice, bool) for choice in get_args(annotation))
    return annotation in (bool, Any)


def _sentence(model: type[BaseModel], details: ErrorDetails, where: str, places: Mapping[str, str], prefix: str) -> str:
    """Return "place: key: what is wrong" for one of pydantic's errors."""
    loc = details["loc"]
    # A validator that compares several fields names the one at fault in its context.
    key = details.get("ctx", {}).get("key") or ".".join([*filter(None, [prefix]), *map(str, loc)])
    place = next((places[name] for name in _ancestors(key) if name in places), where)
    named = f"{key}: " if key else ""
    separator = " " if place.startswith("--") else ": "  # an option: "--set train.epochs: should be ..."
    return f"{place}{separator}{named}{_reason(model, details)}"


def _is_consequence(details: ErrorDetails) -> bool:
    """Whether a list is too short only because its invalid items, which have errors of their own, do not count."""
    return details["type"] == "too_short" and len(details["input"]) >= details["ctx"]["min_length"]


def _ancestors(key: str) -> list[str]:
    parts = key.split(".")
    return [".".join(parts[:count]) for count in range(len(parts), 0, -1)]


def _reason(model: type[BaseModel], details: ErrorDetails) -> str:
    kind, value = details["type"], details["input"]
    if kind == "missing":
        return "is missing"
    if kind == "extra_forbidden":
        return f"unknown key; known keys: {', '.join(_model_at(model, details['loc'][:-1]).model_fields)}"
    if kind in ("model_type", "model_attributes_type"):
        return f"expected a mapping, found {shown(value)}"
    if kind == "too_short":
        return f"needs at least {details['ctx']['min_length']}, found {len(value) or 'none'}"
    if kind == "tuple_type":
        return f"expected a list such as [1], found {shown(value)}"
    message = details["msg"].removeprefix("Value error, ").removeprefix("Input ")
    # A validator's own sentence may already contain the value; the whole mapping would not help.
    return message if "found " in message or isinstance(value, Mapping) else f"{message}, found {shown(value)}"


def _model_at(model: type[BaseModel], loc: tuple[int | str, ...]) -> type[BaseModel]:
    for name in loc:
        inner = model.model_fields[str(name)].annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            model = inner
    return model


def shown(value: Any) -> str:
    """Return a value for a message, as it is written in YAML: null, true, 'text'."""
    text = json.dumps(value) if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."
