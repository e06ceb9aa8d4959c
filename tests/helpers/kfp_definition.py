"""The definition of the Kubeflow Pipelines API (v2beta1): which requests and answers it allows."""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jsonschema import Draft4Validator

FILE = Path(os.environ.get("AUDIOCNN_SCHEMAS", "not-set"), "kfp_v2beta1.swagger.json")


@dataclass(frozen=True)
class Operation:
    """An operation of the API, with the values in the path of one request."""

    name: str
    definition: dict[str, Any]
    values: dict[str, str]


class ApiDefinition:
    """The file of the definition. Fields that it does not list are violations."""

    def __init__(self, file: Path = FILE) -> None:
        content = json.loads(file.read_text(encoding="utf-8"))
        self._definitions = content["definitions"]
        for schema in self._definitions.values():
            _forbid_other_fields(schema)
        self._paths = {
            re.compile(re.sub(r"\\{([a-z_]+)\\}", r"(?P<\1>[^/:]+)", re.escape(path)) + "$"): operations
            for path, operations in content["paths"].items()
            if "." not in path
        }

    def find(self, verb: str, path: str) -> Operation | None:
        """Return the operation of a request."""
        for pattern, operations in self._paths.items():
            found = pattern.match(path)
            if found and verb.lower() in operations:
                operation = operations[verb.lower()]
                name = operation["operationId"].rpartition("_")[2]
                return Operation(re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower(), operation, found.groupdict())
        return None

    def check_request(self, operation: Operation, query: Mapping[str, str], body: Any) -> list[str]:
        """Return the violations of a request. `body` is JSON, or the mapping of the fields of a form."""
        parameters = {parameter["name"]: parameter for parameter in operation.definition.get("parameters", [])}
        problems = [
            f"unknown query parameter {name}" for name in query if parameters.get(name, {}).get("in") != "query"
        ]
        for name, parameter in parameters.items():
            if parameter["in"] == "body":
                problems += self._violations(parameter["schema"], body)
            elif parameter["in"] == "formData" and name not in (body or {}):
                problems.append(f"the form has no field {name}")
        if body is not None and not any(parameter["in"] in ("body", "formData") for parameter in parameters.values()):
            problems.append("a body that the operation does not have")
        if "filter" in query:
            problems += self._violations({"$ref": "#/definitions/v2beta1Filter"}, json.loads(query["filter"]))
        return problems

    def check_answer(self, operation: Operation, status: int, body: Any) -> list[str]:
        """Return the violations of an answer."""
        responses = operation.definition["responses"]
        return self._violations(responses.get(str(status), responses["default"])["schema"], body)

    def _violations(self, schema: Mapping[str, Any], value: Any) -> list[str]:
        validator = Draft4Validator({**schema, "definitions": self._definitions})
        return [f"{error.json_path}: {error.message}"[:500] for error in validator.iter_errors(value)]


def _forbid_other_fields(schema: Any) -> None:
    if not isinstance(schema, dict):
        return
    if schema.get("properties"):
        schema.setdefault("additionalProperties", False)
    for part in schema.values():
        for inner in part if isinstance(part, list) else [part]:
            _forbid_other_fields(inner)
