"""Errors as clients see them: application/problem+json (RFC 9457)."""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import Response
from pydantic import BaseModel, Field

from audiocnn.errors import AudioCNNError
from serving.torchserve.statuses import status_of

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER = 5  # s, if TorchServe is away or too much is going on


class Problem(AudioCNNError):
    """A request that is refused or has failed.

    Args:
        status: HTTP status.
        reason: a word for programs, such as "silent".
        detail: one sentence for people: what is wrong and how to fix it.
    """

    def __init__(self, status: int, reason: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = HTTPStatus(status)
        self.reason = reason
        self.headers = dict(headers or {})

    def body(self, request_id: str) -> dict[str, Any]:
        """Return the members of the problem; `reason` and `request_id` extend those of RFC 9457."""
        return {
            "type": "about:blank",
            "title": self.status.phrase,
            "status": self.status.value,
            "detail": str(self),
            "reason": self.reason,
            "request_id": request_id,
        }

    def response(self, request_id: str) -> Response:
        """Return the response of a request that consists of this problem."""
        content = json.dumps(self.body(request_id), ensure_ascii=False)
        return Response(content, self.status, self.headers, MEDIA_TYPE)


class ProblemBody(BaseModel):
    """The members of a problem, for the OpenAPI document."""

    type: str = "about:blank"
    title: str
    status: int = Field(ge=400, le=599)
    detail: str
    reason: str
    request_id: str


def refused(reason: str, detail: str) -> Problem:
    """Return the problem of a sound file that is refused; `reason` is that of an AudioError."""
    return Problem(status_of(reason), reason, detail)


def unavailable(detail: str) -> Problem:
    """Return the problem of a request that may succeed when it is sent again."""
    return Problem(503, "unavailable", detail, {"Retry-After": str(RETRY_AFTER)})


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the argument `responses` of a route that may answer with problems of these statuses."""
    schema = {"schema": {"$ref": "#/components/schemas/ProblemBody"}}
    return {status: {"description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: schema}} for status in statuses}
