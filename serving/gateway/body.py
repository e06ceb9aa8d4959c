"""The body of a request: read within limits, then split into sound files."""

import asyncio
import base64
import binascii
import json
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from serving.gateway.context import RequestContext
from serving.gateway.problems import Problem, unavailable
from serving.gateway.settings import GatewaySettings

MAX_FIELD_BYTES = 2**16  # of a form's field that is not a file, and is refused
MAX_NAME = 255  # characters of a file's name in an answer
# JSON is parsed at once, while other requests wait. Its base64 has room for more than TorchServe takes at once.
MAX_JSON_BYTES = 2**24
MAX_JSON_PARTS = 10_000  # lists, objects and commas; millions of empty lists would take seconds and gigabytes
PIECE = 2**16  # bytes of a form that are parsed at once
MIN_RATE = 2**12  # bytes per second; a client that sends less would keep its connection for hours


@dataclass(frozen=True)
class SoundFile:
    """A sound file of a request, and its name, which may be empty."""

    name: str
    content: bytes


@dataclass(frozen=True)
class Sounds:
    """The sound files of a request. `single`: one was sent as such, and its answer is that of the request."""

    files: tuple[SoundFile, ...]
    single: bool


class BodyReader:
    """Reads the bodies of all requests within the limits of the settings."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._buffered = 0

    @contextmanager
    def buffered(self, context: RequestContext) -> Iterator[None]:
        """Account for the bytes of one request until the end of the block, which is that of its answer."""
        try:
            yield
        finally:
            self._buffered -= context.size

    async def read(self, request: Request, context: RequestContext) -> bytes:
        """Read the body of a request within buffered().

        Raises:
            Problem: 413 it is too large, 408 it stops arriving, 400 the client left, 503 too much is handled at once.
        """
        settings, content = self._settings, bytearray()
        declared = request.headers.get("content-length", "0")
        if declared.isdecimal() and int(declared) > settings.max_request_bytes:
            raise _too_large(settings.max_request_bytes)
        chunks, end = request.stream(), time.monotonic() + settings.read_timeout_s
        while True:
            try:
                wait = min(settings.read_timeout_s, end + len(content) / MIN_RATE - time.monotonic())
                chunk = await asyncio.wait_for(anext(chunks, None), wait)
            except TimeoutError:
                detail = (
                    f"nothing of the request arrived for {settings.read_timeout_s:g} s, or less than {MIN_RATE} bytes "
                    "per second; send it again"
                )
                raise Problem(408, "read_timeout", detail, {"Connection": "close"}) from None
            except ClientDisconnect:
                raise Problem(400, "disconnected", "the connection ended before the request") from None
            if chunk is None:
                context.is_disconnected = request.is_disconnected
                return bytes(content)
            if len(content) + len(chunk) > settings.max_request_bytes:
                raise _too_large(settings.max_request_bytes)
            if self._buffered + len(chunk) > settings.max_buffered_bytes:
                raise unavailable("the gateway is busy with other large requests; try again later")
            self._buffered += len(chunk)
            context.size += len(chunk)
            content += chunk


async def split(content: bytes, request: Request, max_files: int) -> Sounds:
    """Return the sound files of a body: a file itself, a form (multipart/form-data) or JSON with base64.

    Raises:
        Problem: 400 the form or the JSON is malformed, or has no file or too many.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        files = await _form_files(content, request, max_files)
        single = len(files) == 1
    elif kind == "application/json":
        value = parse_json(content)
        single = isinstance(value, dict) and "files" not in value
        files = [_json_file(value, "")] if single else _json_files(value)
    else:
        files, single = [SoundFile("", content)], True
    if len(files) > max_files:
        raise Problem(413, "too_many_files", f"the request has {len(files)} files; the maximum is {max_files}")
    return Sounds(tuple(files), single)


def parse_json(content: bytes) -> Any:
    """Parse the JSON of a request.

    Raises:
        Problem: 413 it is too large, 400 it is malformed, or has far more parts than any request.
    """
    if len(content) > MAX_JSON_BYTES:
        detail = f"the JSON is larger than {MAX_JSON_BYTES} bytes; send the file as the body, or in a form"
        raise Problem(413, "too_large", detail)
    if sum(map(content.count, (b"[", b"{", b","))) > MAX_JSON_PARTS:
        raise Problem(400, "malformed", f"the JSON has more than {MAX_JSON_PARTS} values")
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise Problem(400, "malformed", "the body is not valid JSON, which its Content-Type announces") from error


def decode_base64(text: Any, where: str) -> bytes:
    """Return the bytes of a base64 text of a JSON body; `where` names it for people."""
    if not isinstance(text, str):
        raise Problem(400, "malformed", f"{where} is not a text with base64")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:  # ValueError: letters outside ASCII
        raise Problem(400, "malformed", f"{where} is not valid base64") from error


async def _form_files(content: bytes, request: Request, max_files: int) -> list[SoundFile]:
    async def stream() -> AsyncGenerator[bytes, None]:
        for start in range(0, len(content), PIECE):
            yield content[start : start + PIECE]
            await asyncio.sleep(0)  # other requests go on in between

    parser = MultiPartParser(
        request.headers, stream(), max_files=max_files, max_fields=max_files, max_part_size=MAX_FIELD_BYTES
    )
    parser.spool_max_size = len(content) + 1  # in memory, which the limits of the body bound, not in a file
    try:
        form = await parser.parse()
    except MultiPartException as error:
        if error.message.startswith("Too many"):
            detail = f"the form has too many fields; the maximum number of files is {max_files}"
            raise Problem(413, "too_many_files", detail) from error
        raise Problem(400, "malformed", f"the body is not a valid form: {error.message}") from error
    except (KeyError, ValueError, UnicodeError) as error:  # a malformed Content-Type or header of a part
        raise Problem(400, "malformed", "the body is not a valid multipart/form-data form") from error
    fields = form.multi_items()
    uploads = [value for _, value in fields if isinstance(value, UploadFile)]
    if not uploads:
        detail = "the form has no file; send one in a field of any name: curl -F file=@clip.wav"
        raise Problem(400, "empty", detail)
    if others := [name for name, value in fields if not isinstance(value, UploadFile)]:
        detail = f"the field {others[0][:MAX_NAME]!r} of the form is no file; options belong in the query: ?top_k=3"
        raise Problem(400, "invalid_option", detail)
    return [SoundFile((upload.filename or "")[:MAX_NAME], await upload.read()) for upload in uploads]


def _json_files(value: Any) -> list[SoundFile]:
    files = value.get("files") if isinstance(value, dict) else None
    if not isinstance(files, list) or not files or len(value) != 1:
        raise Problem(400, "malformed", 'the JSON is neither {"audio": base64} nor {"files": [{"name", "audio"}, ...]}')
    return [_json_file(file, f"files[{index}]") for index, file in enumerate(files)]


def _json_file(value: Any, where: str) -> SoundFile:
    named = f"{where}.audio" if where else "audio"
    if not isinstance(value, dict) or "audio" not in value or not set(value) <= {"name", "audio"}:
        raise Problem(400, "malformed", f'{where or "the JSON"} is not {{"audio": base64}}, with a "name" or without')
    if not isinstance(name := value.get("name", ""), str):
        raise Problem(400, "malformed", f"the name of {where or 'the file'} is not a text")
    return SoundFile(name[:MAX_NAME], decode_base64(value["audio"], named))


def _too_large(limit: int) -> Problem:
    return Problem(413, "too_large", f"the request is larger than {limit} bytes; send a smaller file, or FLAC or Ogg")
