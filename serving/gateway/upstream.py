"""TorchServe as the gateway sees it: a deadline for every request, repeated if a worker or TorchServe itself ends."""

import asyncio
import json
import logging
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

import aiohttp

from serving.gateway.context import RequestContext
from serving.gateway.limits import AnswerTimeout, Turns
from serving.gateway.problems import Problem, unavailable

FIRST_ATTEMPT = 3.0  # s without an answer: TorchServe loses some requests of a killed worker. Doubled if it passes
FIRST_PAUSE, MAX_PAUSE = 0.1, 1.0  # s between two attempts
CONNECT_TIMEOUT = 2.0  # s
log = logging.getLogger(__name__)


class Unanswered(Exception):
    """An attempt without an answer of the model; the message says why."""

    def __init__(self, message: str, timed_out: bool = False) -> None:
        super().__init__(message)
        self.timed_out = timed_out


class Upstream:
    """A client of one model of a TorchServe. Used as an asynchronous context manager.

    Args:
        inference: URL of the inference API.
        model: name of the model.
        key: returns the key of the inference API, empty for none. TorchServe generates a new one at each start.
        deadline: s for an answer, repetitions included.
        concurrency: requests at once; more wait.
    """

    def __init__(
        self, inference: str, model: str, key: Callable[[], str], *, deadline: float, concurrency: int
    ) -> None:
        self._inference = inference.rstrip("/")
        self._model = model
        self._key = key
        self._deadline = deadline
        self._slots = asyncio.Semaphore(concurrency)
        self._turns = Turns()
        self._answer_timeout = AnswerTimeout()
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "Upstream":
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=30)  # `_slots` limits
        self._session = aiohttp.ClientSession(connector=connector, auto_decompress=False)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session:
            await self._session.close()

    async def predict(
        self, content: bytes, options: Mapping[str, str], context: RequestContext, deadline: float | None = None
    ) -> dict[str, Any]:
        """Return the answer to a sound file: the JSON that docs/serving.md describes.

        Raises:
            Problem: the model refuses the file, or did not answer within the deadline.
        """
        path = f"/predictions/{self._model}"
        with self._turns.other():
            return await self._call(path, content, options, context, deadline or self._deadline)

    async def predict_chunk(
        self, content: bytes, options: Mapping[str, str], context: RequestContext
    ) -> dict[str, Any]:
        """Return the answer to a chunk of a long recording, which waits for its turn. Raises as predict()."""
        async with self._turns.chunk():
            return await self._call(f"/predictions/{self._model}", content, options, context, self._deadline)

    async def explain(self, content: bytes, options: Mapping[str, str], context: RequestContext) -> dict[str, Any]:
        """Return the explanation of the answer to a sound file. Raises as predict()."""
        with self._turns.other():
            return await self._call(f"/explanations/{self._model}", content, options, context, self._deadline)

    async def _call(
        self, path: str, content: bytes, options: Mapping[str, str], context: RequestContext, deadline: float
    ) -> dict[str, Any]:
        end, patience, pause = time.monotonic() + deadline, FIRST_ATTEMPT, FIRST_PAUSE
        problem = "too many requests wait"
        while (left := end - time.monotonic()) > 0:
            try:
                async with asyncio.timeout(left), self._slots:
                    if await context.is_disconnected():  # while it waited; others wait for the slot
                        raise Problem(400, "disconnected", "the connection ended before the answer")
                    return await self._attempt(path, content, options, context, min(patience, left))
            except TimeoutError:  # while it waited for a slot, or for the answers to earlier requests
                break
            except Unanswered as error:
                problem = str(error)
                patience *= 2 if error.timed_out else 1
            context.retries += 1
            log.warning("attempt without an answer", extra={"request_id": context.request_id, "problem": problem})
            await asyncio.sleep(max(0.0, min(pause, end - time.monotonic())))
            pause = min(2 * pause, MAX_PAUSE)
        raise unavailable(f"the model did not answer within {deadline:g} s ({problem}); try again later")

    async def _attempt(
        self, path: str, content: bytes, options: Mapping[str, str], context: RequestContext, timeout: float
    ) -> dict[str, Any]:
        assert self._session is not None, "used outside of its block"
        headers = dict(context.headers)
        if key := self._key():
            headers["Authorization"] = f"Bearer {key}"
        limit = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT)
        url, data = self._inference + path, _payload(content, options)
        try:
            async with (
                self._answer_timeout.limit(timeout),
                self._session.post(url, data=data, headers=headers, timeout=limit, allow_redirects=False) as response,
            ):
                body = await response.read()
        except TimeoutError:
            raise Unanswered(f"no answer within {timeout:.0f} s", timed_out=True) from None
        except (aiohttp.ClientError, OSError) as error:
            raise Unanswered(f"TorchServe cannot be reached: {type(error).__name__}") from error
        return _answer(response.status, body)


def _payload(content: bytes, options: Mapping[str, str]) -> aiohttp.Payload:
    """Return a file as the body, or a form with the file and options: TorchServe does not pass on a query."""
    if not options:
        return aiohttp.BytesPayload(content, content_type="application/octet-stream")
    form = aiohttp.MultipartWriter("form-data")
    for name, value in {"data": content, **options}.items():
        form.append(value).set_content_disposition("form-data", name=name)
    return form


def _answer(status: int, body: bytes) -> dict[str, Any]:
    """Return the answer of the handler.

    Raises:
        Problem: of the handler, which names a reason.
        Unanswered: the response is TorchServe's own: no worker, a full queue, no model yet, a key of its last start.
    """
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE and not body:
        raise Problem(413, "too_large", "the file is larger than TorchServe accepts (deploy.max_request_bytes)")
    try:
        answer = json.loads(body)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise Unanswered(f"TorchServe answered with status {status}")
    if status == HTTPStatus.OK:
        return answer
    if "reason" in answer and status != HTTPStatus.UNAUTHORIZED:
        raise Problem(status, str(answer["reason"]), str(answer.get("error", "")))
    if answer.get("type") == "ModelNotFoundException":  # also for a moment after TorchServe was restarted
        raise Unanswered("TorchServe has no model; deploy one with `audiocnn deploy`")
    raise Unanswered(f"TorchServe answered with status {status}: {answer.get('type') or answer.get('reason')}")
