"""The gateway's requests to a TorchServe that misbehaves."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from itertools import repeat

import pytest
from aiohttp import web
from helpers.torchserve import free_ports

from serving.gateway import served, upstream
from serving.gateway.context import make_context
from serving.gateway.problems import Problem
from serving.gateway.served import Probe
from serving.gateway.upstream import Upstream

ANSWER = {"label": "rain"}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class TorchServe:
    """Answers each request in the next of the given ways, and then always in the last."""

    def __init__(self, *ways: Handler) -> None:
        self.ways = list(ways)
        self.requests: list[web.Request] = []
        self.forms: list[dict[str, bytes]] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        if request.content_type == "multipart/form-data":
            self.forms.append({str(part.name): bytes(await part.read()) async for part in await request.multipart()})
        return await (self.ways.pop(0) if len(self.ways) > 1 else self.ways[0])(request)


def responds(status: int, body: object = None, **headers: str) -> Handler:
    async def handle(_: web.Request) -> web.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return web.Response(status=status, body=content, headers=headers)

    return handle


async def hangs(_: web.Request) -> web.Response:
    await asyncio.sleep(3600)
    raise AssertionError


async def disconnects(request: web.Request) -> web.Response:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


OK = responds(200, ANSWER)
REFUSAL = responds(415, {"error": "one sentence", "reason": "undecodable"})


def answers_in_turn(seconds: float, *first: Handler) -> Handler:
    """Return a handler that answers one request after the other, each after a time; the first ones as given."""
    turn, ways = asyncio.Lock(), iter(first)

    async def handle(request: web.Request) -> web.StreamResponse:
        async with turn:
            await asyncio.sleep(seconds)
            return await next(ways, OK)(request)

    return handle


CONNECTED = repeat(True)


def predict(
    server: TorchServe,
    deadline: float = 20.0,
    key: Callable[[], str] = lambda: "",
    connected: Iterator[bool] = CONNECTED,
    clips: int = 1,
    refused: int = 0,
    **options: str,
) -> object:
    """Send clips to a server at once by an Upstream; return the last answer and the number of repetitions of all.

    The first `refused` of them may be refused.
    """

    async def is_disconnected() -> bool:
        return not next(connected)

    async def run() -> object:
        (port,) = free_ports(1)
        app = web.Application(client_max_size=2**20)
        app.router.add_post("/predictions/sounds", server.handle)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        context = make_context("request-1", "00-" + "1" * 32 + "-" + "2" * 16 + "-01", "client")
        context.is_disconnected = is_disconnected
        try:
            async with Upstream(f"http://127.0.0.1:{port}", "sounds", key, deadline=deadline, concurrency=8) as client:
                calls = [client.predict(b"sound", options, context) for _ in range(clips)]
                answers = await asyncio.gather(*calls, return_exceptions=True)
                for problem in (answer for answer in answers[refused:] if isinstance(answer, BaseException)):
                    raise problem
                return answers[-1], context.retries
        finally:
            await runner.cleanup()

    return asyncio.run(run())


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    monkeypatch.setattr(upstream, "FIRST_ATTEMPT", 0.6)
    monkeypatch.setattr(upstream, "FIRST_PAUSE", 0.01)


def test_answer_options_and_identifiers_are_passed_on():
    server = TorchServe(OK)
    assert predict(server, top_k="3") == (ANSWER, 0)
    (request,) = server.requests
    assert server.forms == [{"data": b"sound", "top_k": b"3"}]
    assert request.headers["X-Request-Id"] == "request-1"
    assert request.headers["traceparent"].startswith("00-111")
    assert "Authorization" not in request.headers


@pytest.mark.parametrize(
    "way",
    [
        hangs,
        disconnects,
        responds(500, {"code": 500, "type": "InternalServerException", "message": "Worker died."}),
        responds(503, {"code": 503, "type": "ServiceUnavailableException", "message": "no worker"}),
        responds(507, {"code": 507, "type": "InternalServerException"}),
        responds(404, {"code": 404, "type": "ModelNotFoundException"}),
        responds(502, b"<html>a proxy"),
        responds(200, b"{cut"),
        responds(200, ["a list"]),
        responds(302, b"", Location="http://127.0.0.1:1"),
    ],
)
def test_request_without_an_answer_of_the_model_is_sent_again(way):
    server = TorchServe(way, way, OK)
    assert predict(server) == (ANSWER, 2)


def test_key_of_a_restarted_torchserve_is_read_again():
    server = TorchServe(responds(400, {"code": 400, "type": "InvalidKeyException"}), OK)
    keys = iter(["old", "new"])
    assert predict(server, key=lambda: next(keys)) == (ANSWER, 1)
    assert [request.headers["Authorization"] for request in server.requests] == ["Bearer old", "Bearer new"]


@pytest.mark.parametrize(("status", "reason"), [(415, "undecodable"), (422, "silent"), (413, "too_long")])
def test_refusal_of_the_model_is_final(status, reason):
    server = TorchServe(responds(status, {"error": "one sentence", "reason": reason}))
    with pytest.raises(Problem, match="one sentence") as raised:
        predict(server)
    assert (raised.value.status, raised.value.reason, len(server.requests)) == (status, reason, 1)


def test_file_above_torchserves_limit_is_refused():
    problems = []
    for _ in range(2):
        with pytest.raises(Problem) as raised:
            predict(TorchServe(responds(413, b"")))
        assert (raised.value.status, raised.value.reason) == (413, "too_large")
        problems.append(raised.value)
    assert problems[0] is not problems[1], "the traceback of one problem would keep the files of all requests"


def test_problem_of_a_probe_keeps_nothing_of_the_requests_that_it_answers(monkeypatch):
    monkeypatch.setattr(served, "TIMEOUT", 0.1)
    (port,) = free_ports(1)

    async def frames() -> list[int]:
        async with Upstream(f"http://127.0.0.1:{port}", "sounds", lambda: "", deadline=1.0, concurrency=1) as client:
            probe, found = Probe(client), []
            for _ in range(3):
                with pytest.raises(Problem) as raised:
                    await probe.model()
                found.append(len(raised.traceback))
            return found

    assert len(set(asyncio.run(frames()))) == 1


@pytest.mark.parametrize("way", [hangs, disconnects, responds(503, {"code": 503})])
def test_deadline_ends_the_request_with_503(way):
    with pytest.raises(Problem, match="did not answer within 1 s") as raised:
        predict(TorchServe(way), deadline=1.0)
    assert raised.value.status == 503
    assert int(raised.value.headers["Retry-After"]) > 0


def test_a_torchserve_without_a_model_is_explained():
    missing = responds(404, {"code": 404, "type": "ModelNotFoundException", "message": "Model not found: sounds"})
    with pytest.raises(Problem, match="has no model; deploy one with `audiocnn deploy`"):
        predict(TorchServe(missing), deadline=1.0)
    assert predict(TorchServe(missing, OK)) == (ANSWER, 1), "it was just restarted"


@pytest.mark.parametrize("attempts", [0, 1])
def test_request_of_a_client_that_left_is_not_sent(attempts):
    server = TorchServe(responds(503, {"code": 503}), OK)
    with pytest.raises(Problem) as raised:
        predict(server, connected=iter([True] * attempts + [False]))
    assert (raised.value.reason, len(server.requests)) == ("disconnected", attempts)


@pytest.mark.parametrize("refused", [0, 5])
def test_requests_that_wait_for_earlier_ones_are_not_repeated(refused):
    server = TorchServe(answers_in_turn(0.15, *[REFUSAL] * refused))
    assert predict(server, clips=6, refused=refused) == (ANSWER, 0)  # the last one after 0.9 s
    assert len(server.requests) == 6


@pytest.mark.parametrize("lost", [0, 2])
def test_lost_request_is_repeated_while_others_are_answered(lost):
    slow = answers_in_turn(0.15)
    server = TorchServe(*[slow] * lost, hangs, slow)
    assert predict(server, clips=8) == (ANSWER, 1)
    assert len(server.requests) == 9
