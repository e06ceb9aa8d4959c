"""The gateway's requests for several clients, to a TorchServe that waits."""

import asyncio

from aiohttp import web
from aiohttp.test_utils import TestServer
from helpers.gateway import gateway_settings
from helpers.torchserve import deploy_settings, encode, noise

from audiocnn.config import DecodeSettings
from serving.gateway import limits
from serving.gateway.authentication import Keys
from serving.gateway.context import make_context
from serving.gateway.options import ClassifyOptions
from serving.gateway.service import Gateway

CLIP = encode(noise())
ANSWER = {"label": "rain", "model": {"version": 1}}


def test_a_request_for_windows_waits_while_others_are_answered(tmp_path, monkeypatch):
    """`audiocnn classify` sends them one after the other for a long recording."""
    monkeypatch.setattr(limits, "MAX_WAIT", 60.0)

    async def run() -> None:
        kinds: list[str] = []
        received, released = asyncio.Event(), asyncio.Event()

        async def handle(request: web.Request) -> web.Response:
            kinds.append(request.content_type)
            received.set()
            await released.wait()
            return web.json_response(ANSWER)

        app = web.Application()
        app.router.add_post("/predictions/sounds", handle)
        async with TestServer(app) as server:
            settings = deploy_settings(tmp_path, inference=str(server.make_url("")))
            gateway = Gateway(gateway_settings(), DecodeSettings(ffmpeg=False), settings, "sounds", Keys({}))

            def classify(**options: bool) -> asyncio.Task:
                context = make_context("request-1", "", "client")
                return asyncio.create_task(gateway.classify(CLIP, ClassifyOptions(**options), context))

            async with gateway.upstream:
                clip = classify()
                await received.wait()
                windows = classify(windows=True)
                await asyncio.sleep(0.2)
                before = list(kinds)
                released.set()
                assert await clip == await windows == ANSWER
                assert (before, kinds[1:]) == (["application/octet-stream"], ["multipart/form-data"])

    asyncio.run(run())
